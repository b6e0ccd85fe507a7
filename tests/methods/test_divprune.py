"""DivPrune against plain loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.pruner import Layout
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.divprune import DivPrune, farthest
from tests.methods.views import clustered, ragged, view, visual_indices

GRID = Grid(1, 6, 6)


def distances(x: Tensor) -> list[list[float]]:
    n, v = len(x), [row / row.norm() for row in x.double()]
    table = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i):
            table[i][j] = table[j][i] = 1 - float(v[i] @ v[j])
    return table


def reference(x: Tensor, k: int) -> set[int]:
    n, d = len(x), distances(x)
    if k >= n:
        return set(range(n))
    chosen: list[int] = []
    while len(chosen) < k:
        among = chosen or None
        gap = {i: min(d[i][j] for j in (among or range(n)) if j != i) for i in range(n) if i not in chosen}
        chosen.append(max(gap, key=lambda i: (gap[i], -i)))
    return set(chosen)


def spread(x: Tensor, chosen: list[int]) -> float:
    d = distances(x)
    return min(d[i][j] for i in chosen for j in chosen if i != j)


@pytest.mark.parametrize("dim", [3, 16])
@pytest.mark.parametrize("counts", [[36, 36], [36, 20, 1]])
def test_the_greedy_search(counts: list[int], dim: int) -> None:
    tokens = ragged(counts, GRID, dim=dim, seed=dim)
    for target in (1, 2, 9, 19, 35, 36):
        keep = DivPrune().fuse({"t": view(tokens, target)})["t"].keep
        for b in range(len(counts)):
            at = visual_indices(tokens, b)
            assert {at.index(int(i)) for i in keep[b].nonzero()[:, 0]} == reference(tokens.x[b, at], target)


def test_at_least_as_spread_as_a_thousand_random_selections() -> None:
    g = torch.Generator().manual_seed(0)
    x = clustered(1, 36, 8, 4)
    keep = farthest(x, torch.tensor([7]), torch.ones(1, 36, dtype=torch.bool))
    ours = spread(x[0], [int(i) for i in keep[0].nonzero()[:, 0]])
    v = torch.nn.functional.normalize(x[0].double(), dim=-1)
    picks = torch.stack([torch.randperm(36, generator=g)[:7] for _ in range(1000)])
    gaps = 1 - v[picks] @ v[picks].transpose(1, 2) + 9 * torch.eye(7)
    assert ours >= float(gaps.flatten(1).amin(1).max())


def test_copies_are_never_taken_twice() -> None:
    x = clustered(1, 4, 8, 0).repeat(1, 5, 1)  # 4 distinct tokens, 5 of each
    keep = farthest(x, torch.tensor([9]), torch.ones(1, 20, dtype=torch.bool))
    assert int(keep.sum()) == 9
    assert {int(i) % 4 for i in keep[0].nonzero()[:, 0]} == {0, 1, 2, 3}


@pytest.mark.parametrize("side", [16, 24])
def test_budgets_are_exact(side: int) -> None:
    tokens = ragged([side**2, side**2], Grid(1, side, side), dim=6)
    for ratio in (0.5, 0.667, 0.76, 0.778, 0.889, 0.944):
        target = round((1 - ratio) * side**2)
        assert DivPrune().fuse({"t": view(tokens, target)})["t"].keep.sum(1).tolist() == [target] * 2


def test_encoders_are_pruned_on_their_own_in_proportion() -> None:
    grids = {"a": Grid(1, 8, 8), "b": Grid(1, 4, 4)}
    layout = Layout("independent", grids, {"a": 4, "b": 0})
    tokens = {n: ragged([g.n, g.n - 3], g, seed=s) for s, (n, g) in enumerate(grids.items())}
    decisions = DivPrune().fuse({n: view(t, 20, tower=n, layout=layout) for n, t in tokens.items()})
    assert decisions["a"].keep.sum(1).tolist() == [16, 16] and decisions["b"].keep.sum(1).tolist() == [4, 4]
    alone = DivPrune().fuse({"a": view(tokens["a"], 16, tower="a", layout=layout)})["a"]
    assert torch.equal(alone.keep, decisions["a"].keep)


def test_a_row_does_not_depend_on_its_batch() -> None:
    tokens = ragged([36, 20, 29], GRID)
    k = torch.tensor([12, 5, 20])
    together = farthest(tokens.x, k, tokens.visual)
    for b in range(3):
        one = slice(b, b + 1)
        assert torch.equal(farthest(tokens.x[one], k[one], tokens.visual[one])[0], together[b])
