"""What every `Fused` says, in loops over tokens: the reference of torch's functions and of Triton's kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from meteor_bench.methods.shared import pairs

__all__ = ["LOOPS", "seats", "unit"]


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


def settled(index: Tensor, into: Tensor) -> Tensor:
    """Token by token, looked up in a list of those that stay."""
    out = torch.empty_like(into)
    for b, (stay, ends) in enumerate(zip(index.tolist(), into.tolist(), strict=True)):
        out[b] = torch.tensor(
            [stay.index(i) if i in stay else ~(stay.index(e) if e in stay else len(stay)) for i, e in enumerate(ends)]
        )
    return out


def nearest(likeness: Tensor, keep: Tensor) -> Tensor:
    """The first of the most similar kept ones."""
    out = torch.full(keep.shape, -1)
    for b, stays in enumerate(keep.tolist()):
        for i, values in enumerate(likeness[b].tolist()):
            kept = [j for j, stay in enumerate(stays) if stay]
            if kept:
                out[b, i] = i if stays[i] else max(kept, key=lambda j: (values[j], -j))
    return out


def nearer(x: Tensor, index: Tensor, away: Tensor) -> Tensor:
    """One distance after another."""
    far = [[sum((v - row[i]) ** 2) for v in row] for row, i in zip(x, index[:, 0].tolist(), strict=True)]
    return torch.tensor(
        [[min(float(f), float(a)) for f, a in zip(*row, strict=True)] for row in zip(far, away, strict=True)]
    )


def peaked(distance: Tensor, present: Tensor | None, each: Tensor | None, most: int) -> Tensor:
    """Each point's sorted distances, then those to denser points."""
    out = torch.full(distance.shape[:2], -math.inf, dtype=torch.float64)
    for b, rows in enumerate(distance.tolist()):
        here = [i for i in range(len(rows)) if present is None or bool(present[b, i])]
        k = most if each is None else int(each[b])
        dense = {i: math.exp(-sum(sorted(rows[i][j] ** 2 for j in here)[:k]) / max(k, 1)) for i in here}
        farthest = max(rows[i][j] for i in here for j in here)
        for i in here:
            denser = [rows[i][j] for j in here if (-dense[j], j) < (-dense[i], i)]
            out[b, i] = dense[i] * min([farthest, *denser])
    return out


def facing(likeness: Tensor, order: Tensor) -> Tensor:
    """Every token at an even place with every one at an odd place."""
    pairs_ = [[[float(row[a, c]) for c in of[1::2]] for a in of[0::2]] for row, of in zip(likeness, order, strict=True)]
    return torch.tensor([[max(values) for values in row] for row in pairs_])


def thinned(alike: Tensor, order: Tensor, drop: int) -> Tensor:
    """Lists put together."""
    out = []
    for values, tokens in zip(alike.tolist(), order.tolist(), strict=True):
        by_likeness = sorted(range(len(values)), key=lambda i: (-values[i], i))[drop:]
        out.append([tokens[2 * i] for i in by_likeness] + tokens[1::2])
    return torch.tensor(out)


LOOPS: dict[str, Callable[..., Any]] = {
    "unit": unit,
    "to_mean": to_mean,
    "ranks": ranks,
    "ordered": ordered,
    "best": best,
    "foremost": foremost,
    "merged": merged,
    "followed": followed,
    "settled": settled,
    "nearest": nearest,
    "nearer": nearer,
    "peaked": peaked,
    "facing": facing,
    "thinned": thinned,
    "standing": standing_for,
    "in_places": in_places,
    "relative": relatives,
    "seats": seats,
    "edges": best_edges,
    "isolation": isolation,
}
