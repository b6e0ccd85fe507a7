"""Frames of a clip: a decision about frames is the same decision about the clip."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.cells import on_cells
from meteor_bench.core.join import join_frames
from meteor_bench.core.pruner import Decision
from meteor_bench.core.registry import METHODS
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.calibrate import _stacked
from meteor_bench.methods.shared.frames import frames_of, join_decision
from tests.methods.views import clustered, ragged, view


def test_frames_are_cut_and_joined() -> None:
    grid = Grid(3, 3, 3)
    clips = Tokens.dense(clustered(2, grid.n, 5, 0), grid)
    score = torch.arange(2.0 * grid.n).reshape(2, -1)
    part = frames_of(view(clips, 8, tower="fused"), score, torch.tensor([8, 4]))
    assert part.per_sample == 3 and part.share.tolist() == [3, 3, 2, 2, 1, 1]
    rows = part.view.tokens
    assert torch.equal(rows.x.reshape(2, grid.n, -1), clips.x) and rows.grid == Grid(1, 3, 3)
    g = torch.Generator().manual_seed(0)
    keep = torch.rand(6, 9, generator=g) < 0.4
    keep[:, 4] = True
    into = torch.where(keep, torch.arange(9), 4)
    width = int(keep.sum(1).max())
    mix = torch.rand(6, width, 9, generator=g)
    mix = mix * (torch.arange(width) < keep.sum(1)[:, None])[..., None]
    for decision in (
        Decision(keep),
        Decision(keep, into, torch.rand(6, 9, generator=g), normalise=False),
        Decision(keep, into, mix=mix),
        Decision(keep, into, mix=mix, order=torch.randint(0, 4, (6, 9), generator=g)),
    ):
        want = join_frames(apply(rows, decision), 3)
        got = apply(clips, join_decision(decision, 3))
        assert torch.allclose(got.x, want.x, atol=1e-5)
        assert torch.equal(got.origin, want.origin) and torch.equal(got.group, want.group)
        assert torch.equal(got.valid, want.valid) and torch.equal(got.size, want.size)


def test_a_clip_with_holes_is_left_whole() -> None:
    tokens = ragged([20, 27], Grid(3, 3, 3))
    part = frames_of(view(tokens, 8), torch.zeros(2, 27), torch.tensor([8, 8]))
    assert part.per_sample == 1 and part.share.tolist() == [8, 8]


def test_scores_on_cells() -> None:
    tokens = ragged([9, 5], Grid(1, 3, 3), cls=True)
    values = torch.rand(2, 10, generator=torch.Generator().manual_seed(0))
    cells = on_cells(tokens, values)
    for b in range(2):
        for cell in range(9):
            slots = (tokens.origin[b] == cell).nonzero()[:, 0].tolist()
            assert float(cells[b, cell]) == (float(values[b, slots[0]]) if slots else -torch.inf)
    merged = apply(tokens, Decision(tokens.origin == 0, torch.full((2, 10), 1)))
    if int(tokens.origin[0, 1]) == 0:
        assert torch.equal(on_cells(merged, torch.ones(2, 2))[0], torch.ones(9))


def test_observations_of_different_widths_are_stacked() -> None:
    got = _stacked([torch.ones(1, 2), torch.ones(2, 3)])
    assert got.shape == (3, 3) and got[0].isnan().tolist() == [False, False, True]
    assert _stacked([torch.ones(2), torch.ones(1)]).shape == (3,)


@pytest.mark.parametrize("side", [16, 24])
@pytest.mark.parametrize("name", ["fastervlm", "visionzip", "vispruner", "holov", "comp-token", "svdprune"])
def test_budgets_are_exact(name: str, side: int) -> None:
    method, grid = METHODS.load(name)(), Grid(1, side, side)
    tokens = Tokens.dense(clustered(1, grid.n, 8, side), grid)
    scores = {"t": torch.rand(1, grid.n, generator=torch.Generator().manual_seed(0))}
    for ratio in (0, 0.5, 0.667, 0.76, 0.778, 0.889, 0.944):
        seen = view(
            tokens, TokenBudget.from_ratio(ratio).tokens(grid.n), **({"scores": scores} if method.projected else {})
        )
        decision = (method.fuse if method.projected else method.encode)({"t": seen})["t"]
        out = apply(tokens, decision)
        assert out.counts().tolist() == [int((1 - ratio) * grid.n + 0.5)]
        assert not method.ordered or (out.origin.diff() > 0).all()
        if ratio == 0:
            assert torch.equal(out.x, tokens.x)
