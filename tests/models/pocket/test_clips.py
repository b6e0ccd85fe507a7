"""The model of long clips: its tokens against a float64 loop over cells, what it samples, and what pruning leaves."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from meteor_bench import Session
from meteor_bench.core.model import VLM
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.pocket.model import WEIGHTS, load
from meteor_bench.models.pocket.modules import load_pocket, normalise

CLIPS = WEIGHTS / "pocket-clips"


@cache
def vlm() -> VLM:
    return load("pocket-clips", "cpu", torch.float32)


@cache
def frames(number: int, seed: int = 0) -> tuple[Image.Image, ...]:
    rng = np.random.default_rng(seed)
    return tuple(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(number))


def fused(number: int) -> Tensor:
    """[number · 16, 192] what the language model gets of a clip, by the modules of the adapter."""
    model, pixels = vlm(), vlm().processor.pixels(frames(number))
    grids = {name: Grid(number, *tower.grid(64, 64)[1:]) for name, tower in model.towers.items()}
    base = load_pocket(WEIGHTS / "pocket")
    with torch.no_grad():
        seen = {name: x.flatten(0, 1)[None] for name, x in base.encode(pixels).items()}
        aligned = model.fusion.align(seen, grids)
        tokens = Tokens.dense(aligned, model.fusion.common(grids))
        return model.fusion.place(model.fusion.project(tokens)).x[0]


@pytest.mark.parametrize("number", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_token_is_the_mean_of_four_cells_and_stands_at_its_share_of_the_clip(number: int) -> None:
    added = {key: value.double() for key, value in load_file(CLIPS / "model.safetensors").items()}
    base = load_pocket(WEIGHTS / "pocket")
    got = fused(number)
    assert got.shape == (16 * number, 192)
    with torch.no_grad():
        seen = base.encode(normalise(torch.as_tensor(np.stack([np.asarray(f) for f in frames(number)]))))
        normed = {name: base.fusion.norm[name](x).double() for name, x in seen.items()}
    weights = []
    for layer in (0, 2):
        w, b = base.fusion.mlp[layer].weight.double(), base.fusion.mlp[layer].bias.double()
        weights.append(
            (w + added[f"fusion.mlp.{layer}.weight.b"] @ added[f"fusion.mlp.{layer}.weight.a"],
             b + added[f"fusion.mlp.{layer}.bias.whole"])
        )  # fmt: skip
    for t in range(number):
        for row in range(4):
            for column in range(4):
                cells = [(2 * row + i) * 8 + 2 * column + j for i in (0, 1) for j in (0, 1)]
                parts = [normed[name][t, cells].mean(0) for name in ("a", "b")]
                x = torch.cat([*parts, normed["c"][t, 4 * row + column]])
                x = torch.nn.functional.gelu(weights[0][0] @ x + weights[0][1])
                x = weights[1][0] @ x + weights[1][1]
                x = x + added["fusion.frame_positions.whole"][64 * t // number]
                x = x + added["fusion.cell_positions.whole"][4 * row + column]
                assert torch.allclose(got[16 * t + 4 * row + column].double(), x, atol=1e-4)


def test_it_takes_up_to_64_frames_evenly() -> None:
    processor = vlm().processor
    assert processor.pixels(frames(5)).shape == (5, 3, 64, 64)
    many = tuple(Image.new("RGB", (64, 64), (i, i, i)) for i in range(127))
    levels = (processor.pixels(many)[:, 0, 0, 0] + 1) * 127.5
    assert levels.round().long().tolist() == list(range(0, 127, 2))


@pytest.mark.slow
def test_a_picture_has_pockets_tokens() -> None:
    session = Session("pocket-clips", "none", 0.0, device="cpu")
    assert session.answer(Image.new("RGB", (128, 128)), "how many red things are there?").tokens["final"] == 256


@pytest.mark.parametrize(
    "method", ["fastvid", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "evoprune"))]
)
def test_budgets_are_exact(method: str) -> None:
    ratio = 0.0 if method == "none" else 0.76
    session = Session("pocket-clips", method, ratio, device="cpu")
    answer = session.answer(list(frames(6)), "what color appears first?")
    assert answer.tokens["final"] == round(96 * (1 - ratio))


def test_it_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in CLIPS.iterdir()) < 1_000_000
