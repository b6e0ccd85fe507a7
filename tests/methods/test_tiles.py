"""Methods for video on one picture that was cut into tiles: the tiles are no frames."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import Decision, Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import fuse
from meteor_bench.engine.make_method import make_pruner
from tests import hubs, tiny
from tests.methods.views import clustered, view

TILES, PICTURE = Grid(3, 4, 4), Grid(1, 12, 4)
METHODS = ["dycoke", "earlytom", "fastvid", "flashvid", "framefusion", "holitom", "prunevid", "subsample", "vidcom2"]


def decided(method: str, grid: Grid, *, framed: bool) -> Decision:
    x = clustered(1, 16, 8, 0).repeat(1, 3, 1) + 0.1 * clustered(1, 48, 8, 1)  # three tiles alike
    layout = Layout("independent", {"t": grid}, {"t": 4}, framed=framed)
    score = torch.rand(1, 48, generator=torch.Generator().manual_seed(2))
    whole: dict[str, Any] = {"layout": layout, "scores": {"t": score}, "kind": "fuse"}
    found: Decision = make_pruner(method, {}).fuse({"t": view(Tokens.dense(x, grid), 9, **whole)})["t"]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("method", METHODS)
def test_tiles_are_one_picture(method: str) -> None:
    tiles, picture = decided(method, TILES, framed=False), decided(method, PICTURE, framed=True)
    frames = decided(method, TILES, framed=True)
    assert torch.equal(tiles.keep, picture.keep)
    for name in ("merge_into", "weight", "mix"):
        one, other = getattr(tiles, name), getattr(picture, name)
        assert (one is None and other is None) or torch.equal(one, other)
    assert not torch.equal(frames.keep, picture.keep)


def test_a_picture_in_tiles_is_subsampled_like_any_picture() -> None:
    vlm, kept = hubs.build("internvl"), {}
    for method, frames in [("subsample", 1), ("uniform", 1), ("subsample", 3), ("uniform", 3)]:
        (request,) = tiny.requests(1, frames)
        look = vlm.processor.look(request.media())
        engine = Engine(vlm, make_pruner(method, {}), TokenBudget(0.4))
        with torch.inference_mode():
            tokens = fuse(engine, encode(engine, look.pixels[None], ["a"], look.scene)).tokens
        assert len(look.pixels) > 1
        kept[method, frames] = tokens.origin[tokens.visual].tolist()
    assert kept["subsample", 1] == kept["uniform", 1]
    assert kept["subsample", 3] != kept["uniform", 3]
