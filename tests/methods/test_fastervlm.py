"""FasterVLM against a sort; what a tower without attention gets; several encoders on one grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.pick import rows_of
from meteor_bench.core.pruner import Layout, View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.fastervlm import FasterVLM
from tests.methods.views import clustered, ragged, view, visual_indices


def reference(attention: list[float], k: int) -> set[int]:
    """Places of the k highest, ties to the first."""
    return set(sorted(range(len(attention)), key=lambda i: (-attention[i], i))[:k])


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("side", [4, 7])
def test_the_highest_class_attention_stays(side: int, cls: bool) -> None:
    grid = Grid(1, side, side)
    counts = [side * side, side * side - 3, 5]
    for seed in range(3):
        tokens = ragged(counts, grid, seed=seed, cls=cls)
        for target in (0, 1, 5, 11, side * side):
            seen = view(tokens, target, seed=seed)
            assert seen.attention is not None
            keep = FasterVLM().encode({"t": seen})["t"].keep
            for b in range(3):
                at = visual_indices(tokens, b)
                want = reference([float(seen.attention[b, i]) for i in at], target)
                assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in want}


def test_no_other_choice_holds_more_of_the_class_tokens_attention() -> None:
    tokens = ragged([49, 40], Grid(1, 7, 7), cls=True)
    seen = view(tokens, 12)
    assert seen.attention is not None
    attention = seen.attention.masked_fill(~tokens.visual, 0.0)
    held = (attention * FasterVLM().encode({"t": seen})["t"].keep).sum(1)
    g = torch.Generator().manual_seed(0)
    for _ in range(1000):
        order = torch.rand(2, 50, generator=g).masked_fill(~tokens.visual, -1.0).argsort(1, descending=True)
        assert bool((attention.gather(1, order[:, :12]).sum(1) <= held + 1e-6).all())


def test_without_attention_the_least_typical_tokens_stay() -> None:
    tokens = ragged([16, 9], Grid(1, 4, 4))
    keep = FasterVLM().encode({"t": view(tokens, 4, attention=None)})["t"].keep
    for b in range(2):
        at = visual_indices(tokens, b)
        x = tokens.x[b, at].double()
        mean = x.mean(0)
        distance = [1 - float(row @ mean / (row.norm() * mean.norm())) for row in x]
        assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in reference(distance, 4)}


GRIDS = {"a": Grid(1, 4, 4), "b": Grid(1, 2, 2), "c": Grid(1, 8, 8)}


def fused(frames: int, target: int, seed: int = 0) -> View:
    """A fuse view of three towers on one grid, whose scores differ in scale."""
    g = torch.Generator().manual_seed(seed)
    grids = {n: Grid(frames, *grid[1:]) for n, grid in GRIDS.items()}
    scores = {n: (10.0**i) * torch.rand(2, grid.n, generator=g) - i for i, (n, grid) in enumerate(grids.items())}
    tokens = Tokens.dense(clustered(2, grids["a"].n, 6, seed), grids["a"])
    layout = Layout("shared", grids, {"a": 4, "b": 0, "c": 3})
    return view(tokens, target, tower="fused", layout=layout, scores=scores)


def on_common_grid(score: Tensor, side: int) -> list[list[float]]:
    """A frame's scores on a 4 x 4 grid: repeated, or the mean of what falls into a cell."""
    plane = score.double().reshape(side, side).tolist()
    if side <= 4:
        return [[plane[y * side // 4][x * side // 4] for x in range(4)] for y in range(4)]
    f = side // 4
    cells = [[[plane[y * f + i][x * f + j] for i in range(f) for j in range(f)] for x in range(4)] for y in range(4)]
    return [[sum(c) / len(c) for c in row] for row in cells]


@pytest.mark.parametrize("frames", [1, 3])
def test_on_a_shared_grid_scores_are_brought_to_one_range_and_averaged(frames: int) -> None:
    for target in (4, 10):
        seen = fused(frames, target)
        keep = FasterVLM().fuse({"fused": seen})["fused"].keep
        for b in range(2):
            for f in range(frames):
                total = [0.0] * 16
                for name, grid in GRIDS.items():
                    part = seen.scores[name][b, f * grid.n : (f + 1) * grid.n]
                    flat = [v for row in on_common_grid(part, grid.h) for v in row]
                    low, high = min(flat), max(flat)
                    total = [t + (v - low) / (high - low) / 3 for t, v in zip(total, flat, strict=True)]
                share = target // frames + (f < target % frames)
                got = {int(i) for i in keep[b, 16 * f : 16 * f + 16].nonzero()[:, 0]}
                assert got == reference(total, share)


def test_scores_of_dropped_cells_count_as_the_lowest() -> None:
    seen = fused(1, 3)
    scores = {"a": torch.tensor([[-torch.inf, 3.0, 2.0, 1.0] * 4]).expand(2, -1)}
    seen = seen.changed(scores=scores)
    keep = FasterVLM().fuse({"fused": seen})["fused"].keep
    assert keep[0].nonzero()[:, 0].tolist() == [1, 5, 9]


def test_a_row_does_not_depend_on_its_batch() -> None:
    tokens = ragged([16, 9, 12], Grid(1, 4, 4), cls=True)
    seen = view(tokens, 5)
    keep = FasterVLM().encode({"t": seen})["t"].keep
    for b in range(3):
        alone = rows_of(tokens, torch.tensor([b]))
        assert seen.attention is not None
        one = view(alone, 5, attention=seen.attention[b : b + 1])
        assert torch.equal(FasterVLM().encode({"t": one})["t"].keep[0], keep[b])
    assert apply(tokens, FasterVLM().encode({"t": seen})["t"]).counts().tolist() == [5, 5, 5]
