"""subsample against a plain count."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.subsample import Subsample
from tests.methods.views import ragged, view


def middles(n: int, k: int) -> list[int]:
    """The middle place of each of k equal runs of n."""
    return [int((i + 0.5) * n / k) for i in range(k)]


@pytest.mark.parametrize("target", [1, 5, 6, 7, 12, 20, 47, 48])
def test_whole_frames_and_a_part_of_the_last(target: int) -> None:
    grid = Grid(8, 2, 3)
    tokens = Tokens.dense(torch.randn(2, grid.n, 4), grid)
    keep = Subsample().fuse({"t": view(tokens, target)})["t"].keep.reshape(2, 8, 6)
    frames = middles(8, -(-target // 6))
    rest = target - 6 * (len(frames) - 1)
    for b in range(2):
        for f in range(8):
            want = [] if f not in frames else list(range(6)) if f != frames[-1] else middles(6, rest)
            assert keep[b, f].nonzero().flatten().tolist() == want


def test_a_picture_and_what_is_no_whole_grid_are_thinned_out_evenly() -> None:
    picture = Tokens.dense(torch.randn(1, 12, 4), Grid(1, 3, 4))
    assert Subsample().fuse({"t": view(picture, 4)})["t"].keep[0].nonzero().flatten().tolist() == middles(12, 4)
    left = ragged([20, 9], Grid(4, 2, 3))
    assert Subsample().fuse({"t": view(left, 5)})["t"].keep.sum(1).tolist() == [5, 5]
