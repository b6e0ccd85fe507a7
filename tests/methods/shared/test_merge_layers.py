"""Where methods merge inside the encoders and down to what, with EvoPrune's and every other schedule."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError, UnsupportedError
from meteor_bench.core.pruner import Layout
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.evoprune.method import EvoPrune
from meteor_bench.methods.shared.schedules import SCHEDULES, plan, smallest
from tests.methods.test_evoprune import GRID, inside_view
from tests.methods.views import ragged, view


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n", [256, 64, 49])
def test_plans_reach_every_target_they_can(schedule: str, n: int) -> None:
    blocks = tuple(EvoPrune(schedule=schedule)._blocks(8))  # type: ignore[arg-type]
    least = smallest(schedule, blocks, n)
    for target in range(1, n + 1):
        found = plan(schedule, blocks, blocks, n, target)
        counts = [n, *found.counts]
        assert all(b <= a <= 2 * b for a, b in itertools.pairwise(counts))
        assert (found.reached == target) == (target >= least)


def test_even_spread_of_the_skip_schedule() -> None:
    assert plan("skip", (1, 3, 5, 7), (1, 3, 5, 7), 100, 60).counts == (90, 80, 70, 60)
    grow = plan("increasing", (1, 2, 3, 4), (1, 2, 3, 4), 100, 60).counts
    shrink = plan("decreasing", (1, 2, 3, 4), (1, 2, 3, 4), 100, 60).counts
    assert grow == (96, 88, 76, 60) and shrink == (84, 72, 64, 60)


def test_clip_l_reaches_64_and_not_32() -> None:
    blocks = tuple(EvoPrune()._blocks(24))
    assert len(blocks) == 12
    assert plan("skip", blocks, blocks, 576, 64).reached == 64
    assert plan("skip", blocks, blocks, 576, 32).reached > 32
    assert 32 < smallest("skip", blocks, 576) <= 64
    everywhere = tuple(range(1, 25))
    relaxed = plan("skip", blocks, everywhere, 576, 32)
    assert relaxed.reached == 32
    assert [c for c, stop in zip(relaxed.counts, everywhere, strict=True) if stop in blocks and c < 0] == []


def test_out_of_reach_names_the_smallest_target() -> None:
    tokens = ragged([36], GRID)
    least = smallest("skip", (1, 3), 36)
    with pytest.raises(BudgetError, match=rf"to 4 of 36 tokens.*reach {least};"):
        EvoPrune(relax=False).encode({"t": inside_view(tokens, 4, 1)})


def test_independent_shares_are_proportional_and_exact() -> None:
    grids = {"a": Grid(1, 16, 16), "b": Grid(1, 16, 16), "c": Grid(1, 8, 8)}
    layout = Layout("independent", grids, {"a": 4, "b": 0, "c": 3})
    seen = view(ragged([256], grids["a"]), 61, tower="a", layout=layout)
    share = {n: int(k) for n, k in EvoPrune()._shares(seen).items()}
    assert sum(share.values()) == 61 and share == {"a": 27, "b": 27, "c": 7}


def model(kind: str, depths: dict[str, int], side: int = 24) -> SimpleNamespace:
    """Towers of side x side tokens each."""
    grid = Grid(1, side, side)
    return SimpleNamespace(
        name="m",
        fusion=SimpleNamespace(kind=kind),
        towers={n: SimpleNamespace(depth=d, grid=lambda h, w: grid) for n, d in depths.items()},
        native=(336, 336),
        grid=lambda frames, h, w: grid,
        reference=lambda grid: grid.n,
    )


def stops(method: EvoPrune, vlm: SimpleNamespace, keep: float) -> list[dict[str, int]]:
    return [dict(p.after) for p in method.points(vlm, TokenBudget(keep)).encode]  # type: ignore[arg-type]


def test_points() -> None:
    llava = model("independent", {"t": 24})
    one = EvoPrune().points(llava, TokenBudget(64 / 576))  # type: ignore[arg-type]
    assert [dict(p.after) for p in one.encode] == [{"t": b} for b in (*range(1, 24, 2), 24)]
    assert [p.inside for p in one.encode] == [True] * 12 + [False]
    assert one.encode[0].attention == "received" and one.encode[-1].attention is None and one.fuse is None
    assert len(stops(EvoPrune(), llava, 32 / 576)) == 25
    with pytest.raises(BudgetError, match=r"tower 't' to 32 of 576 tokens: 12 merge layers.*reach 4\d;"):
        stops(EvoPrune(relax=False), llava, 32 / 576)
    pocket = model("shared", {"a": 4, "b": 0, "c": 3}, side=16)
    assert stops(EvoPrune(), pocket, 0.5) == [{"a": 1, "c": 1}, {"a": 3, "c": 3}, {"a": 4, "c": 3}]
    assert stops(EvoPrune(), pocket, 0.24) == [
        {"a": 1, "c": 1},
        {"a": 2, "c": 2},
        {"a": 3, "c": 3},
        {"a": 4},
        {"a": 4, "c": 3},
    ]
    fuse = EvoPrune().points(pocket, TokenBudget(0.24)).fuse  # type: ignore[arg-type]
    assert fuse is not None and fuse.features


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UnsupportedError, match="'m' has none"):
        EvoPrune().points(model("shared", {"b": 0}), TokenBudget(0.5))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="lead='b'"):
        EvoPrune(lead="b").points(model("shared", {"a": 4, "b": 0}), TokenBudget(0.5))  # type: ignore[arg-type]
