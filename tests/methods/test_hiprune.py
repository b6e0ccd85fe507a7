"""HiPrune against plain loops."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.hiprune import HiPrune
from tests import tiny
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 6, 7)


def reference(middle: dict[int, float], last: dict[int, float], k: int, alpha: float) -> set[int]:
    """Cells of the grid, from their two attentions."""

    def best(score: dict[int, float], n: int, but: set[int]) -> set[int]:
        return set(sorted((c for c in score if c not in but), key=lambda c: (-score[c], c))[:n])

    anchors = best(middle, round(alpha * k / 5), set())
    buffers = {min(max(c + d, 0), GRID.n - 1) for c in anchors for d in (-1, 1, -GRID.w, GRID.w)} & set(last)
    chosen = anchors | buffers
    return chosen | best(last, k - len(chosen), chosen)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_anchors_their_neighbours_and_registers(alpha: float) -> None:
    counts = [42, 30]
    tokens = ragged(counts, GRID, cls=True)
    middle = torch.rand(2, 43, generator=torch.Generator().manual_seed(3))
    for target in (2, 13, 20, 42):
        seen = view(tokens, target, point=1, memo={"hiprune.t": middle}, seed=target)
        decision = HiPrune(alpha=alpha).encode({"t": seen})["t"]
        for b, count in enumerate(counts):
            at = visual_indices(tokens, b)
            cell = {i: int(tokens.origin[b, i]) for i in at}
            one, two = ({cell[i]: float(a[b, i]) for i in at} for a in (middle, seen.attention))
            want = reference(one, two, target, alpha) if target < count else set(cell.values())
            assert {cell[int(i)] for i in decision.keep[b].nonzero()[:, 0]} == want


def test_the_object_block_is_read_on_the_way_and_the_last_one_at_the_end() -> None:
    vlm = tiny.build("single")
    points = HiPrune().points(vlm, TokenBudget(0.5))
    ((name, tower),) = vlm.towers.items()
    assert [dict(p.after) for p in points.encode] == [{name: max(1, round(9 / 24 * tower.depth))}, {name: tower.depth}]
    assert {p.attention for p in points.encode} == {"received"}


def test_a_single_wide_row_wraps_as_the_authors_code_does() -> None:
    tokens = ragged([42], GRID)
    middle = torch.zeros(1, 42)
    middle[0, 6] = 1.0  # the last cell of the first row: cell 7, below at the left, counts as its neighbour
    last = torch.linspace(0.5, 0.0, 42)[None]
    kept = HiPrune(alpha=0.5).encode({"t": view(tokens, 10, point=1, memo={"hiprune.t": middle}, attention=last)})
    cells = kept["t"].keep[0].nonzero().flatten().tolist()
    assert {5, 6, 7, 13} <= set(cells) and cells[:7] == [0, 1, 2, 3, 4, 5, 6]
