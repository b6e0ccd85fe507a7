"""Triton's kernels of every `Fused` beside loops; run as a program under TRITON_INTERPRET=1 it compares.

Triton decides when it is imported whether it interprets, so a process of its own is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core import rows, standing
from meteor_bench.core.fused import Fused
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.evoprune import edges
from meteor_bench.methods.shared import pairs
from meteor_bench.models import relative, window_places

OPERATIONS: dict[str, Fused[Any, Any]] = {
    "unit": rows.unit,
    "to_mean": rows.to_mean,
    "ranks": rows.ranks,
    "ordered": rows.ordered,
    "best": rows.best,
    "foremost": rows.foremost,
    "merged": rows.merged,
    "followed": rows.followed,
    "standing": standing.standing,
    "in_places": window_places.in_places,
    "relative": relative.relative,
    "seats": pairs.seats,
    "edges": edges.edges,
    "isolation": edges.isolation,
}


def unit(x: Tensor) -> Tensor:
    """Vectors divided by their lengths, one by one."""
    each = [v / max(math.sqrt(float((v.double() ** 2).sum())), 1e-12) for v in x.double().reshape(-1, x.shape[-1])]
    return torch.stack(each).view(x.shape)


def to_mean(x: Tensor) -> Tensor:
    """The formula of a cosine, token by token."""
    out = torch.zeros(x.shape[:2], dtype=torch.float64)
    for b, row in enumerate(x.double()):
        mean = sum(row) / len(row)
        for i, v in enumerate(row):
            lengths = math.sqrt(float((v * v).sum())) * math.sqrt(float((mean * mean).sum()))
            out[b, i] = float((v * mean).sum()) / lengths if lengths else 0.0
    return out


def ordered(key: Tensor, falling: bool) -> Tensor:
    """A list's own sort, which is stable; what is no number is the highest, as in torch."""
    out = torch.empty(key.shape, dtype=torch.long)
    for b, values in enumerate(key.tolist()):
        keys = [(1, 0) if v != v else (0, v) for v in values]
        out[b] = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__, reverse=falling))
    return out


def best(score: Tensor, allowed: Tensor | None, each: Tensor | None, most: int) -> Tensor:
    """Taken from a sorted list one after another."""
    out = torch.zeros(score.shape, dtype=torch.bool)
    for b, values in enumerate(score.float().tolist()):
        mine = [i for i in range(len(values)) if allowed is None or bool(allowed[b, i])]
        mine.sort(key=lambda i: (0 if math.isnan(values[i]) else 1, -values[i], i))
        out[b, mine[: most if each is None else int(each[b])]] = True
    return out


def foremost(score: Tensor, window: Tensor, left: Tensor) -> Tensor:
    """The first of each window's sorted list."""
    out = torch.zeros(score.shape, dtype=torch.bool)
    for b, values in enumerate(score.tolist()):
        for w, most in enumerate(left[b].tolist()):
            inside = [i for i, own in enumerate(window[b].tolist()) if own == w]
            out[b, sorted(inside, key=lambda i: (-values[i], i))[:most]] = True
    return out


def ranks(score: Tensor) -> Tensor:
    """Places in a sorted list; what is no number comes first, as in torch."""
    out = torch.empty(score.shape, dtype=torch.long)
    for row, values in enumerate(score.tolist()):
        keys = [(0 if math.isnan(v) else 1, 0.0 if math.isnan(v) else -v, i) for i, v in enumerate(values)]
        for place, (_, _, i) in enumerate(sorted(keys)):
            out[row, i] = place
    return out


def merged(x: Tensor, size: Tensor, seats: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each token that stays, and what ends in it."""
    out = torch.zeros(len(x), count, x.shape[2], dtype=torch.float64)
    mass, stay = torch.zeros(len(x), count), torch.zeros(len(x), count, dtype=torch.long)
    for b, row in enumerate(seats.tolist()):
        for k in range(count):
            parts = [n for n, place in enumerate(row) if place in (k, ~k)]
            stay[b, k] = row.index(k)
            mass[b, k] = sum(float(size[b, n]) for n in parts)
            out[b, k] = sum(x[b, n].double() * float(size[b, n]) for n in parts) / mass[b, k]
    return out, mass, stay


def followed(seats: Tensor, index: Tensor) -> Tensor:
    """Place by place."""
    led = [[max(row[i], ~row[i]) for i in of] for row, of in zip(seats.tolist(), index.tolist(), strict=True)]
    return torch.tensor(led)


def standing_for(origin: Tensor, group: Tensor, height: int, width: int) -> Tensor:
    """Each cell's own token, or that of the nearest cell which has one."""
    out, frame = torch.empty_like(group), height * width
    for b, row in enumerate(group.tolist()):
        token = {o: i for i, o in enumerate(origin[b].tolist()) if o >= 0}
        own = [token.get(g, -1) if g >= 0 else -1 for g in row]
        for cell in range(len(row)):
            of_frame = range(cell // frame * frame, cell // frame * frame + frame)
            y, x = divmod(cell % frame, width)
            far = {c: (c % frame // width - y) ** 2 + (c % width - x) ** 2 for c in of_frame if own[c] >= 0}
            out[b, cell] = own[min(far, key=lambda c: (far[c], c))]
    return out


def in_places(
    origin: Tensor, known: Tensor, counted: Tensor, inner: Tensor, early: Tensor, padding: Tensor, width: int
) -> tuple[Tensor, ...]:
    """Window by window, seat by seat; told where each begins by nobody."""
    windows = len(padding)
    place = torch.full(origin.shape, windows * width)
    index, cell = (torch.zeros(len(origin), windows * width, dtype=torch.long) for _ in range(2))
    for b, cells in enumerate(origin.tolist()):
        for w in range(windows):
            inside = [i for i, o in enumerate(cells) if o >= 0 and counted[o] == w]
            inside.sort(key=lambda i: int(inner[cells[i]]))
            for seat, i in enumerate(inside):
                place[b, i], index[b, w * width + seat] = w * width + seat, i
                cell[b, w * width + seat] = inner[cells[i]]
            for more in range(int(known[b, 2 * windows + 1 + w])):
                cell[b, w * width + len(inside) + more] = padding[w, more]
    return place, index, cell


def relatives(down: Tensor, across: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Pair by pair."""
    b, heads, n, _ = down.shape
    out = torch.zeros(b, heads, n, n)
    for i, h, q, k in ((i, h, q, k) for i in range(b) for h in range(heads) for q in range(n) for k in range(n)):
        out[i, h, q, k] = down[i, h, q, row[i, k]] + across[i, h, q, column[i, k]]
    return out


def seats(best: Tensor, partner: Tensor, n: int, r: int, order: int, heads: int) -> Tensor:
    """Tokens taken out of a list, then looked up in it; heads are put before it."""
    out = torch.arange(heads + n).repeat(len(best), 1)
    for b, (scores, goals) in enumerate(zip(best.tolist(), partner.tolist(), strict=True)):
        by_score = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        gone = {2 * i: 2 * goals[i] + 1 for i in by_score[:r]}
        left = [i for i in range(n) if i not in gone]
        if order != pairs.IN_PLACE:
            evens = by_score[r:] if order == pairs.BY_SCORE else sorted(by_score[r:])
            left = [2 * i for i in evens] + list(range(1, n, 2))
        left = [*range(-heads, 0), *left]
        places = [~left.index(gone[i]) if i in gone else left.index(i) for i in range(n)]
        out[b, heads:] = torch.tensor(places)
    return out


def best_edges(
    likeness: Tensor, apart: Tensor | None, protected: Tensor | None, strength: float
) -> tuple[Tensor, Tensor]:
    """Every edge, one by one."""
    count, m, _ = likeness.shape
    best, partner = torch.zeros(count, (m + 1) // 2), torch.zeros(count, (m + 1) // 2, dtype=torch.long)
    for b in range(count):
        for i in range(0, m, 2):
            scores = []
            for j in range(1, m, 2):
                score = max(float(likeness[b, i, j]), 0.0)
                if apart is not None:
                    score *= math.exp(-strength * float(apart[b, i] + apart[b, j]))
                if protected is not None and bool(protected[b, i] | protected[b, j]):
                    score -= 2
                scores.append(score)
            best[b, i // 2] = max(scores)
            partner[b, i // 2] = scores.index(max(scores))
    return best, partner


def isolation(likeness: Tensor, neighbours: int, temperature: float) -> Tensor:
    """Sorted distances, one token after another; the lower of two middle ones is the median, as in torch."""
    out = torch.zeros(likeness.shape[:2], dtype=torch.float64)
    for b, row in enumerate(likeness.double()):
        near = [
            sorted(math.sqrt(max(2 - 2 * float(row[i, j]), 0.0)) for j in range(len(row)) if j != i)[:neighbours]
            for i in range(len(row))
        ]
        every = sorted(d for distances in near for d in distances)
        tau = temperature or max(every[(len(every) - 1) // 2], 1e-6)
        for i, distances in enumerate(near):
            out[b, i] = 1 - sum(math.exp(-((d / tau) ** 2)) for d in distances) / neighbours
    return out


LOOPS: dict[str, Callable[..., Any]] = {
    "unit": unit,
    "to_mean": to_mean,
    "ranks": ranks,
    "ordered": ordered,
    "best": best,
    "foremost": foremost,
    "merged": merged,
    "followed": followed,
    "standing": standing_for,
    "in_places": in_places,
    "relative": relatives,
    "seats": seats,
    "edges": best_edges,
    "isolation": isolation,
}


def cases() -> dict[str, tuple[Any, ...]]:
    """Arguments of the operation before the colon, with something in each that another has not."""
    draw = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    v = unit(rand(2, 37, 6)).float()
    likeness = v @ v.transpose(1, 2)
    apart, protected = torch.rand(2, 37, generator=draw), torch.rand(2, 37, generator=draw) > 0.6
    strange = rand(1, 40).round(decimals=1)
    strange[0, [3, 20]], strange[0, 7] = torch.nan, -torch.inf
    best, partner = rand(2, 20).round(decimals=1), torch.randint(19, (2, 20), generator=draw)
    placed = seats(best, partner, 39, 13, pairs.IN_PLACE, 0)
    size = torch.randint(1, 5, (2, 39), generator=draw).float()
    window, left = torch.randint(5, (2, 70), generator=draw), torch.randint(20, (2, 5), generator=draw)
    left[:, 3] = 0
    cells = torch.stack([torch.randperm(340, generator=draw)[:90].sort().values for _ in range(2)])
    alone = torch.arange(340).expand(2, -1)
    others = cells.gather(1, torch.randint(90, (2, 340), generator=draw))
    every = torch.where(torch.rand(2, 340, generator=draw) < 0.5, others, -1).scatter_(1, cells, cells)
    every[1][torch.isin(every[1], cells[1, 85:])] = -1  # whose token is none below
    cells[1, 85:] = -1
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
        "merged: pairs": (rand(2, 39, 300), size, placed, 26),
        "merged: strided": (rand(2, 300, 39).transpose(1, 2), size, placed, 26),
        "followed: cells": (placed, torch.randint(39, (2, 600), generator=draw)),
        "standing: dropped": (cells, alone, 17, 10),
        "standing: two frames": (cells, alone, 10, 17),
        "standing: merged": (cells.flip(1), every, 17, 10),
        "in_places: padding": _windows(),
        "relative: some": (rand(2, 3, 7, 5), rand(2, 3, 7, 5), *torch.randint(5, (2, 2, 7), generator=draw)),
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
