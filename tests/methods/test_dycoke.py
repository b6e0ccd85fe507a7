"""DyCoke against plain loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.dycoke import DyCoke
from tests.methods.clips import cosine
from tests.methods.views import ragged, view, visual_indices

Cells = dict[tuple[int, int], Tensor]  # (frame, position) -> features


def reference(cells: Cells, frames: list[int], total: int, side: int) -> set[tuple[int, int]]:
    """Cells that stay of the given frames."""
    size = {f: sum(1 for g, _ in cells if g == f) for f in frames}
    if len(frames) == 1:
        mine = sorted(c for c in cells if c[0] == frames[0])
        n, k = len(mine), min(total, len(mine))
        return {mine[int((i + 0.5) * n / k)] for i in range(k)}
    first = frames[::4]
    base = sum(size[f] for f in first)
    if base > total:
        return reference(cells, first, total, side)
    kept = {c for c in cells if c[0] in first}
    others = [f for f in frames if f not in first]
    share = dict.fromkeys(others, 0)
    while sum(share.values()) < total - base:  # one each in turn, those with room
        for f in others:
            if share[f] < size[f] and sum(share.values()) < total - base:
                share[f] += 1
    for f in others:
        at = frames.index(f)
        partner = frames[at - at % 4 + {1: 0, 2: 0, 3: 2}[at % 4]]

        def likeness(c: tuple[int, int], partner: int = partner) -> float:
            other = cells.get((partner, c[1]))
            return -2.0 if other is None else cosine(cells[c], other)

        mine = sorted((c for c in cells if c[0] == f), key=lambda c: (likeness(c), c))
        kept |= set(mine[: share[f]])
    return kept


def cells_of(tokens: Tokens, b: int) -> Cells:
    side = tokens.grid.h * tokens.grid.w
    return {divmod(int(tokens.origin[b, i]), side): tokens.x[b, i].double() for i in visual_indices(tokens, b)}


@pytest.mark.parametrize("frames", [2, 7, 8, 18])
@pytest.mark.parametrize("missing", [0, 11])
def test_what_is_like_its_counterpart_goes(frames: int, missing: int) -> None:
    grid = Grid(frames, 2, 3)
    tokens = ragged([grid.n, grid.n - missing], grid, seed=frames)
    for target in {1, 4, 6, 7, grid.n // 4 + 3, grid.n // 2, grid.n - 1}:
        keep = DyCoke().fuse({"t": view(tokens, target, kind="fuse")})["t"].keep
        for b in range(2):
            cells = cells_of(tokens, b)
            at = {divmod(int(tokens.origin[b, i]), 6): i for i in visual_indices(tokens, b)}
            want = reference(cells, list(range(frames)), min(target, len(cells)), 6)
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[c] for c in want}


def test_at_the_published_share_seven_tenths_of_three_frames_in_four_go() -> None:
    grid = Grid(8, 4, 5)
    tokens = Tokens.dense(torch.randn(1, grid.n, 8), grid)
    keep = DyCoke().fuse({"t": view(tokens, 2 * (20 + 3 * 6), kind="fuse")})["t"].keep
    assert keep.view(8, 20).sum(1).tolist() == [20, 6, 6, 6] * 2


def test_the_authors_leave_a_frame_of_the_last_window_whole() -> None:
    grid = Grid(8, 4, 5)
    tokens = Tokens.dense(torch.randn(1, grid.n, 8), grid)
    keep = DyCoke(official_quirks=True).fuse({"t": view(tokens, 60 + 5 * 6, kind="fuse")})["t"].keep
    assert keep.view(8, 20).sum(1).tolist() == [20, 6, 6, 6, 20, 6, 20, 6]
