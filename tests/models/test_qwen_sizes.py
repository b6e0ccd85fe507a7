"""The Qwens at their published sizes, on tensors without storage."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.model import ModelCard
from meteor_bench.models.qwen2_5_vl import QWEN2_5_VL_3B, QWEN2_5_VL_7B, QWEN2_5_VL_32B, QWEN2_5_VL_72B
from meteor_bench.models.qwen3_vl import QWEN3_VL_2B, QWEN3_VL_4B, QWEN3_VL_8B, QWEN3_VL_32B
from meteor_bench.models.qwen3_vl_moe import QWEN3_VL_30B_A3B, QWEN3_VL_235B_A22B


@pytest.mark.parametrize(
    ("card", "parameters"),  # of the published weights, as the hub counts them
    [
        (QWEN2_5_VL_3B, 3_754_622_976),
        (QWEN2_5_VL_7B, 8_292_166_656),
        (QWEN2_5_VL_32B, 33_452_718_336),
        (QWEN2_5_VL_72B, 73_410_777_344),
        (QWEN3_VL_2B, 2_127_532_032),
        (QWEN3_VL_4B, 4_437_815_808),
        (QWEN3_VL_8B, 8_767_123_696),
        (QWEN3_VL_32B, 33_357_390_064),
        (QWEN3_VL_30B_A3B, 31_070_754_032),
        (QWEN3_VL_235B_A22B, 235_670_022_896),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_real_sizes(card: ModelCard, parameters: int) -> None:
    assert card.random is not None
    vlm = card.random("meta", torch.bfloat16)
    assert sum(p.numel() for m in vlm.modules().values() for p in m.parameters()) == parameters
    assert vlm.grid(1, *vlm.native).n == card.tokens == 576
