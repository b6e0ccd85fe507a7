"""InternVL3: its encoder pruned, against the library's own layers; real sizes; what is not supported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.model import ModelCard
from meteor_bench.core.pruner import Decision
from meteor_bench.models.internvl import (
    INTERNVL3_1B,
    INTERNVL3_5_1B,
    INTERNVL3_5_8B,
    INTERNVL3_8B,
    INTERNVL3_38B,
)
from tests import hubs


@torch.inference_mode()
def test_a_pruned_row_is_what_the_librarys_layers_make_of_its_tokens() -> None:
    tower, library = hubs.build("internvl").towers["vit"], hubs.library("internvl").model.model.vision_tower
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = library.embeddings(pixels)
    kept = [[0, 1, 2, 5, 9, 15], [3, 4, 8, 10, 11, 14]]
    keep = torch.tensor([[False, *(i in row for i in range(16))] for row in kept])
    tokens = apply(tower.embed(pixels), Decision(keep=keep))
    x = tokens.x
    for block in range(tower.depth):
        x = tower.feed(block, tower.attend(block, x, None, None))
    done = tower.finish(tokens.with_x(x))
    for row, cells in enumerate(kept):
        h = whole[row : row + 1, [0, *(1 + cell for cell in cells)]]
        for layer in library.encoder.layer:
            h = layer(h)
        assert torch.allclose(done.x[row], h[0, 1:], atol=1e-5)
        assert done.origin[row].tolist() == cells


@torch.inference_mode()
def test_the_probe_reads_values_and_logits() -> None:
    tower, library = hubs.build("internvl").towers["vit"], hubs.library("internvl").model.model.vision_tower
    x = tower.embed(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))).x
    layer, probe = library.encoder.layer[0], Probe(mode="keys", want_values=True, want_logits=True)
    tower.attend(0, x, None, probe)
    h, own = layer.layernorm_before(x), layer.attention
    q, k = (f(p(h)).unflatten(2, (2, 16)).double() for f, p in ((own.q_norm, own.q_proj), (own.k_norm, own.k_proj)))
    assert tower.opens and probe.values is not None and probe.logits is not None
    assert torch.allclose(probe.values.flatten(2), own.v_proj(h), atol=1e-6)
    logits = torch.einsum("rqhd,rkhd->rhqk", q, k).mean(1) / 4
    assert torch.allclose(probe.logits.double(), logits, atol=1e-5)


@pytest.mark.parametrize(
    ("card", "parameters", "within"),
    [
        (INTERNVL3_1B, 938_193_024, 0),  # as the hub counts InternVL2.5, of the same parts
        (INTERNVL3_38B, 38_388_164_992, 0),
        (INTERNVL3_8B, 15.9e9 / 2, 0.005),  # bytes of the published files
        (INTERNVL3_5_1B, 2.12e9 / 2, 0.005),
        (INTERNVL3_5_8B, 17.1e9 / 2, 0.005),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_real_sizes(card: ModelCard, parameters: float, within: float) -> None:
    assert card.random is not None
    vlm = card.random("meta", torch.bfloat16)
    assert sum(p.numel() for m in vlm.modules().values() for p in m.parameters()) == pytest.approx(
        parameters, rel=within, abs=0
    )
    assert vlm.grid(1, *vlm.native).n == 1024 and vlm.reference(vlm.grid(1, *vlm.native)) == 256
    assert card.tokens == 13 * 256


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_feature_layer": -2}, r"vision_feature_layer=-2 .*supported: -1 and 'default'"),
        ({"downsample_ratio": 0.25}, r"downsample_ratio=0\.25 on 4x4 patches; supported: 0\.5"),
        ({"vision_config": {"patch_size": [8, 4]}}, r"patch_size=\[8, 4\]; supported: squares"),
        ({"text_config": {"model_type": "gemma"}}, r"language model of type 'gemma'; supported: qwen2, qwen3, llama"),
    ],
)
def test_what_is_not_supported_is_one_line(tmp_path: Path, changes: Mapping[str, Any], said: str) -> None:
    assert re.search(said, hubs.refused("internvl", tmp_path / "odd", changes))
