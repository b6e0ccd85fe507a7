"""Triton's kernels of every `Fused` beside loops; run as a program under TRITON_INTERPRET=1 it compares.

Triton decides when it is imported whether it interprets, so a process of its own is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core import ends, rows, standing
from meteor_bench.core.fused import Fused
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.evoprune import edges
from meteor_bench.methods.shared import density, pairs, picks, rounds
from meteor_bench.models import relative, window_places
from tests.core.fused_loops import LOOPS, seats, unit

OPERATIONS: dict[str, Fused[Any, Any]] = {
    "unit": rows.unit,
    "to_mean": rows.to_mean,
    "ranks": rows.ranks,
    "ordered": rows.ordered,
    "best": rows.best,
    "foremost": rows.foremost,
    "merged": ends.merged,
    "followed": ends.followed,
    "settled": ends.settled,
    "nearest": ends.nearest,
    "nearer": picks.nearer,
    "peaked": density.peaked,
    "facing": rounds.facing,
    "thinned": rounds.thinned,
    "standing": standing.standing,
    "in_places": window_places.in_places,
    "relative": relative.relative,
    "seats": pairs.seats,
    "edges": edges.edges,
    "isolation": edges.isolation,
}


def cases() -> dict[str, tuple[Any, ...]]:
    """Arguments of the operation before the colon, with something in each that another has not."""
    draw = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    return {**_of_rows(draw, rand), **_of_choices(draw, rand), **_of_places(draw, rand), **_of_pairs(draw, rand)}


def _of_rows(draw: torch.Generator, rand: Callable[..., Tensor]) -> dict[str, tuple[Any, ...]]:
    strange = rand(1, 40).round(decimals=1)
    strange[0, [3, 20]], strange[0, 7] = torch.nan, -torch.inf
    window, left = torch.randint(5, (2, 70), generator=draw), torch.randint(20, (2, 5), generator=draw)
    left[:, 3] = 0
    return {
        "unit: zero row": (torch.cat([rand(3, 5, 300), torch.zeros(3, 1, 300)], 1),),
        "unit: halves": (rand(7, 40).half(),),
        "to_mean: zero row": (torch.cat([rand(2, 5, 300), torch.zeros(2, 1, 300)], 1),),
        "to_mean: halves": (rand(3, 7, 40).half(),),
        "ordered: falling": (torch.cat([strange, strange.flip(1)]), True),
        "ordered: rising": (torch.cat([strange, strange.flip(1)]), False),
        "ordered: kept first": (rand(3, 70) > 0, True),
        "ordered: whole numbers": (torch.randint(9, (2, 70), generator=draw), False),
        "best: of all": (rand(3, 70).round(decimals=1), None, None, 30),
        "best: of some": (rand(3, 70).half(), rand(3, 70) > 0, None, 20),
        "best: each its own": (rand(3, 70), rand(3, 70) > 0, torch.tensor([0, 5, 60]), 0),
        "foremost: equal ones": (rand(2, 70).round(decimals=1), window, left),
        "ranks: equal ones": (rand(3, 70).round(decimals=1),),
        "ranks: no numbers": (strange,),
        "relative: some": (rand(2, 3, 7, 5), rand(2, 3, 7, 5), *torch.randint(5, (2, 2, 7), generator=draw)),
    }


def _likeness(rand: Callable[..., Tensor]) -> Tensor:
    v = unit(rand(2, 37, 6)).float()
    return v @ v.transpose(1, 2)


def _of_choices(draw: torch.Generator, rand: Callable[..., Tensor]) -> dict[str, tuple[Any, ...]]:
    likeness, points, keep = _likeness(rand), rand(2, 37, 6), rand(3, 37) > 0.5
    keep[2] = False
    order = torch.stack([torch.randperm(37, generator=draw)[:33] for _ in range(2)])
    return {
        "nearest: equal ones": (rand(3, 37, 37).round(decimals=1), keep),
        "nearest: no numbers": (rand(2, 37, 37).index_fill(1, torch.tensor([3, 20]), torch.nan), keep[:2]),
        "nearer: far and near": (points.double(), torch.tensor([[3], [17]]), 12 + 4 * rand(2, 37).double()),
        "peaked: all": (torch.cdist(points, points), None, None, 5),
        "peaked: some": (torch.cdist(points, points), keep[:2], torch.tensor([3, 6]), 0),
        "peaked: no neighbour": (torch.cdist(points, points), None, torch.tensor([0, 2]), 0),
        "facing: odd number": (likeness, order),
        "facing: two": (likeness, order[:, :2]),
        "thinned: equal ones": (rand(2, 17).round(decimals=1), order, 5),
        "thinned: even number": (rand(2, 16), order[:, :32], 8),
    }


def _of_places(draw: torch.Generator, rand: Callable[..., Tensor]) -> dict[str, tuple[Any, ...]]:
    cells = torch.stack([torch.randperm(340, generator=draw)[:90].sort().values for _ in range(2)])
    alone = torch.arange(340).expand(2, -1)
    others = cells.gather(1, torch.randint(90, (2, 340), generator=draw))
    every = torch.where(torch.rand(2, 340, generator=draw) < 0.5, others, -1).scatter_(1, cells, cells)
    every[1][torch.isin(every[1], cells[1, 85:])] = -1  # whose token is none below
    cells[1, 85:] = -1
    stay = torch.stack([torch.randperm(39, generator=draw)[:13] for _ in range(2)])
    goals = torch.randint(13, (2, 39), generator=draw)
    return {
        "settled: some gone": (stay, torch.where(rand(2, 39) > 1, -1, stay.gather(1, goals))),
        "settled: into one that goes": (stay, torch.arange(39).roll(1).expand(2, -1)),
        "standing: dropped": (cells, alone, 17, 10),
        "standing: two frames": (cells, alone, 10, 17),
        "standing: merged": (cells.flip(1), every, 17, 10),
        "in_places: padding": _windows(),
    }


def _of_pairs(draw: torch.Generator, rand: Callable[..., Tensor]) -> dict[str, tuple[Any, ...]]:
    likeness = _likeness(rand)
    apart, protected = torch.rand(2, 37, generator=draw), torch.rand(2, 37, generator=draw) > 0.6
    best, partner = rand(2, 20).round(decimals=1), torch.randint(19, (2, 20), generator=draw)
    placed = seats(best, partner, 39, 13, pairs.IN_PLACE, 0)
    size = torch.randint(1, 5, (2, 39), generator=draw).float()
    return {
        "merged: pairs": (rand(2, 39, 300), size, placed, 26),
        "merged: strided": (rand(2, 300, 39).transpose(1, 2), size, placed, 26),
        "merged: some gone": (rand(2, 39, 300), size, torch.where(placed == ~3, ~26, placed), 26),
        "followed: cells": (placed, torch.randint(39, (2, 600), generator=draw)),
        "seats: ordered": (best, partner, 39, 13, pairs.IN_PLACE, 0),
        "seats: by score": (best, partner, 39, 13, pairs.BY_SCORE, 0),
        "seats: odd last": (best, partner, 39, 13, pairs.ODD_LAST, 0),
        "seats: behind three": (best, partner, 39, 13, pairs.IN_PLACE, 3),
        "seats: by score behind one": (best, partner, 39, 13, pairs.BY_SCORE, 1),
        "seats: all": (best[:, :19], partner[:, :19], 38, 19, pairs.IN_PLACE, 0),
        "edges: all of it": (likeness, apart, protected, 1.3),
        "edges: protected": (likeness, None, protected, 1.0),
        "edges: bare": (likeness[:, :36, :36], None, None, 1.0),
        "isolation: median": (likeness, 5, 0.0),
        "isolation: tau": (likeness, 3, 0.8),
        "isolation: one": (likeness, 1, 0.0),
    }


def _windows() -> tuple[Any, ...]:
    """Some tokens of 7 x 9 cells in windows of 4 x 4 as wide as the fullest; padding behind the second row."""
    draw = torch.Generator().manual_seed(1)
    tables = window_places.known_cells(Grid(1, 7, 9), 4, torch.device("cpu"))
    origin = torch.stack([torch.randperm(63, generator=draw)[:30] for _ in range(2)])
    origin[1, 26:] = -1
    known, width = [], 0
    for row in origin.tolist():
        inside = [sum(o >= 0 and int(tables.window[o]) == w for o in row) for w in range(6)]
        width = max(width, *inside)
        known.append(inside)
    for row in known:
        start = [width * w - sum(row[:w]) for w in range(7)]
        room = [int((cells >= 0).sum()) for cells in tables.padding]
        row[:] = start + row + [min(width - n, most) for n, most in zip(row, room, strict=True)]
    return origin, torch.tensor(known), *tables[1:], width


def compare(name: str, run: Callable[..., Any]) -> None:
    """Whether what ``run`` makes of a case is what the loop makes of it."""
    case = cases()[name]
    found, wanted = run(*case), LOOPS[name.split(":")[0]](*case)
    pairs_ = [(found, wanted)] if isinstance(found, Tensor) else zip(found, wanted, strict=True)
    for got, want in pairs_:
        assert got.shape == want.shape, name
        if got.is_floating_point():
            assert torch.allclose(got.double(), want.double(), atol=2e-6), name
        else:
            assert torch.equal(got, want), name


def main() -> None:
    for name in cases():
        operation = OPERATIONS[name.split(":")[0]]
        compare(name, getattr(import_module(operation.kernels), name.split(":")[0]))


if __name__ == "__main__":
    main()
