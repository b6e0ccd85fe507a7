"""DeepSeek-VL hybrid: its encoders and aligner at real size, and the aligner's parts."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.deepseek_vl_hybrid import DEEPSEEK_VL_7B
from tests import hubs


def test_closed_forms_at_real_size() -> None:
    assert DEEPSEEK_VL_7B.random is not None
    vlm = DEEPSEEK_VL_7B.random("meta", torch.bfloat16)
    assert {name: tower.grid(*vlm.native) for name, tower in vlm.towers.items()} == dict.fromkeys(
        ("siglip", "sam"), Grid(1, 24, 24)
    )
    pixels = torch.empty(1, 3, *vlm.native, device="meta", dtype=torch.bfloat16)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        tokens = vlm.towers["sam"].embed(pixels)
    assert tokens.x.shape == (1, 576, 1024)
    assert counter.get_total_flops() == vlm.towers["sam"].flops_embed(*vlm.native)


def test_the_partial_projections_sum_to_the_projection() -> None:
    vlm = hubs.build("deepseek_vl_hybrid")
    grid = Grid(1, 4, 4)
    towers = {name: torch.randn(2, 16, tower.dim) for name, tower in vlm.towers.items()}
    aligned = vlm.fusion.align(towers, dict.fromkeys(towers, grid))
    whole = vlm.fusion.project(Tokens.dense(aligned, grid)).x
    parts = vlm.fusion.partials(aligned)
    assert parts.keys() == towers.keys()
    bias = hubs.library("deepseek_vl_hybrid").model.model.aligner.proj.bias
    assert torch.allclose(torch.stack(list(parts.values())).sum(0) + bias, whole, atol=1e-5)
    zeroed = vlm.fusion.align({**towers, "sam": 2 * towers["sam"]}, dict.fromkeys(towers, grid))
    assert torch.equal(vlm.fusion.partials(zeroed)["siglip"], parts["siglip"])
