"""contrast against plain loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.contrast import Contrast, likeness_to_neighbours
from tests.methods.views import ragged, view, visual_indices


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def reference(x: dict[tuple[int, int, int], Tensor], local: float) -> dict[tuple[int, int, int], float]:
    """Score of each cell (frame, row, column) that has a token."""
    mean = sum(x.values()) / len(x)
    scores = {}
    for (t, h, w), token in x.items():
        beside = [(t + 1, h, w), (t - 1, h, w), (t, h + 1, w), (t, h - 1, w), (t, h, w + 1), (t, h, w - 1)]
        near = [cosine(token, x[cell]) for cell in beside if cell in x]
        score = 1 - cosine(token, mean)  # type: ignore[arg-type]
        scores[t, h, w] = score + (local * (1 - sum(near) / len(near)) if near else 0.0)
    return scores


@pytest.mark.parametrize("local", [3.0, 0.0])
@pytest.mark.parametrize(
    ("grid", "counts"), [(Grid(1, 5, 6), [30, 17, 2]), (Grid(3, 3, 4), [36, 20, 1]), (Grid(1, 1, 7), [7, 4])]
)
def test_what_differs_from_the_mean_and_from_its_neighbours_stays(grid: Grid, counts: list[int], local: float) -> None:
    tokens = ragged(counts, grid, seed=grid.n)
    for target in (1, 4, 11):
        keep = Contrast(local=local).fuse({"t": view(tokens, target)})["t"].keep
        for b, count in enumerate(counts):
            at = visual_indices(tokens, b)
            cells = {i: int(tokens.origin[b, i]) for i in at}
            place = {i: (c // (grid.h * grid.w), c // grid.w % grid.h, c % grid.w) for i, c in cells.items()}
            score = reference({place[i]: tokens.x[b, i].double() for i in at}, local)
            want = sorted(at, key=lambda i: (-score[place[i]], i))[: min(target, count)]
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == set(want)


def test_a_thing_on_a_plain_ground_is_kept_and_a_full_grid_takes_the_short_way() -> None:
    whole = ragged([36], Grid(1, 6, 6), seed=1)
    x = torch.ones(1, 36, 8) + 0.01 * torch.randn(1, 36, 8, generator=torch.Generator().manual_seed(0))
    x[0, 14] = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])
    dense = whole.with_x(x)
    kept = Contrast().fuse({"t": view(dense, 5)})["t"].keep[0].nonzero().flatten().tolist()
    assert set(kept) == {14, 8, 13, 15, 20}, "the thing, and the cells that border on it"
    short = likeness_to_neighbours(Tokens.dense(x, Grid(1, 6, 6)))
    assert torch.allclose(short, likeness_to_neighbours(dense), atol=1e-6)
