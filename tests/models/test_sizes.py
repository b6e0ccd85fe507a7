"""Full-size figures on tensors without storage: closed forms equal torch's counter, and both the published numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from meteor_bench.core.model import VLM, VisionTower
from meteor_bench.core.registry import MODELS
from meteor_bench.core.tokens import Tokens
from meteor_bench.core.tower_flops import tower_flops
from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.models.eagle.model import EAGLE_X5_7B
from meteor_bench.report.listing import CARDS, models
from scripts.model_cards import row

TERA = 1e12
ENCODERS = {"clip": 0.38, "convnext": 6.34, "sam": 2.99, "det": 3.10, "pix2struct": 2.48}


@pytest.fixture(scope="module")
def x5() -> VLM:
    assert EAGLE_X5_7B.random is not None
    return EAGLE_X5_7B.random("meta", torch.bfloat16)


def counted(work: Callable[[], object]) -> int:
    """FLOPs as torch sees them."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        work()
    return int(counter.get_total_flops())


def run(tower: VisionTower) -> None:
    """An encoder's forward on tensors without storage; only the places of its tokens are real."""
    tokens = tower.embed(torch.empty(1, 3, 1024, 1024, device="meta", dtype=torch.bfloat16))
    where: Any = tower.where(Tokens.dense(torch.empty(1, tokens.grid.n, 1), tokens.grid))
    if where is not None:
        moved = {f.name: getattr(where, f.name) for f in fields(where)}
        where = replace(where, **{name: v.to("meta") for name, v in moved.items() if isinstance(v, Tensor)})
    x = tokens.x
    for block in range(tower.depth):
        x = tower.feed(block, tower.attend(block, x, None, None, where))
    tower.finish(tokens.with_x(x))


def test_each_encoder_takes_the_published_figure(x5: VLM) -> None:
    assert ENCODERS == {
        name: pytest.approx(tower_flops(x5.towers[name], 1024, 1024) / TERA, abs=0.01) for name in ENCODERS
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_each_encoders_closed_form_is_what_torch_counts(x5: VLM, name: str) -> None:
    assert counted(lambda: run(x5.towers[name])) == tower_flops(x5.towers[name], 1024, 1024)


def test_pix2struct_with_its_padding_rows_takes_2_51_tflops(x5: VLM) -> None:
    """As released: 2048 rows, 23 of them zeros; ours leaves those out."""
    model: Any = x5.towers["pix2struct"].model
    rows = torch.empty(1, 2048, 770, device="meta", dtype=torch.bfloat16)
    released = counted(lambda: model.encoder(model.embeddings(rows)))
    assert released / TERA == pytest.approx(2.51, abs=0.005)
    assert released > tower_flops(x5.towers["pix2struct"], 1024, 1024)


def test_eagle_x4_takes_26_2_and_x5_29_2_tflops(x5: VLM) -> None:
    decoder, fusion = x5.decoder, x5.fusion
    h = torch.empty(1, 1024, decoder.dim, device="meta", dtype=torch.bfloat16)
    rotary, cache = decoder.rotary(h, torch.empty(1, 1024, device="meta")), LayerCache(decoder.depth)

    def prefill() -> None:
        x = h
        for layer in range(decoder.depth):
            x = decoder.layer(layer, x, rotary, None, cache, None)

    llm = decoder.depth * decoder.flops_layer(1024, 1024)
    assert counted(prefill) == llm and llm / TERA == pytest.approx(13.81, abs=0.005)
    joined = Tokens.dense(
        torch.empty(1, 1024, 7680, device="meta", dtype=torch.bfloat16), x5.towers["convnext"].grid(1024, 1024)
    )
    assert counted(lambda: fusion.project(joined)) == fusion.flops({"fused": 1024})
    total = sum(tower_flops(tower, 1024, 1024) for tower in x5.towers.values()) + fusion.flops({"fused": 1024}) + llm
    assert total / TERA == pytest.approx(29.2, abs=0.05)
    costs = {name: json.loads(CARDS.read_text())[name]["cost"] for name in ("eagle-x4-7b", "eagle-x5-7b")}
    # X4: the same without SAM, a narrower projector, and as released with Pix2Struct's 23 rows of zeros.
    x4 = sum(e["flops"] for e in costs["eagle-x4-7b"]["encoders"].values())
    padding = 18 * 2 * (4 * 1536**2 + 3 * 1536 * 3968) * 23 + 18 * 4 * 1536 * (2048**2 - 2025**2) + 2 * 768 * 1536 * 23
    assert (x4 + padding) / TERA == pytest.approx(12.33, abs=0.005)
    released = x4 + padding + costs["eagle-x4-7b"]["fuse"] + costs["eagle-x4-7b"]["prefill"]
    assert released / TERA == pytest.approx(26.23, abs=0.005)
    assert released / TERA == pytest.approx(26.21, abs=0.03)  # METEOR's table


@pytest.mark.parametrize("name", [n if n == "pocket" else pytest.param(n, marks=pytest.mark.slow) for n in MODELS.rows])
def test_the_list_shows_what_the_models_say(name: str) -> None:
    """After a change: `python scripts/model_cards.py`."""
    assert json.loads(CARDS.read_text(encoding="utf-8"))[name] == json.loads(json.dumps(row(name)))


def test_every_row_of_ours_has_its_figures() -> None:
    assert list(json.loads(CARDS.read_text(encoding="utf-8"))) == list(MODELS.rows)
    (shown,) = [row for row in models() if row["name"] == "eagle-x5-7b"]
    assert (shown["params, G"], shown["TFLOPs"], shown["tokens"]) == (9.06, 29.2, 1024)
    assert any("64x64 tokens of 1024, 303 M, 3.1 TFLOPs" in said for said in shown["encoders"])
