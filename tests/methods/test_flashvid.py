"""FlashVID against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.flashvid import FlashVID
from tests.methods.clips import clip, clusters, cosine, evenly, quotas
from tests.methods.views import view

Cell = tuple[int, int]


def chosen_of(x: Tensor, attention: Tensor, event: Tensor, k: int) -> list[int]:
    """Positions of a frame, one after another."""
    n = len(x)
    gap = [[(1 - cosine(x[i], x[j])) * float(attention[j] * (x[j] @ event)) for j in range(n)] for i in range(n)]
    second = [sorted(gap[i][j] for i in range(n))[1] for j in range(n)]
    found = [max(range(n), key=lambda j: (second[j], -j))] if k else []
    while len(found) < k:
        left = [j for j in range(n) if j not in found]
        found.append(max(left, key=lambda j: (min(gap[i][j] for i in found), -j)))
    return found


def reference(x: Tensor, attention: Tensor, total: int, parts: list[range], quirk: bool) -> dict[Cell, Tensor]:
    """(frame, position) -> what the kept token there has become."""
    frames, side, _ = x.shape
    slots = evenly(total, [side] * frames)
    out: dict[Cell, Tensor] = {}
    for part in parts:
        event = torch.stack([x[f].mean(0) for f in part]).mean(0)
        few = {f: math.ceil(0.7 * slots[f] - 1e-9) for f in part}
        taken = {(f, p) for f in part for p in chosen_of(x[f], attention[f], event, few[f])}
        out |= {c: x[c] for c in taken}
        rest = [(f, p) for f in part for p in range(side) if (f, p) not in taken]
        links: dict[Cell, tuple[float, Cell]] = {}
        for f, p in rest:
            before = [(f - 1, q) for q in range(side) if (f - 1, q) in rest]
            if before:
                best = max(before, key=lambda c: (cosine(x[f, p], x[c]), -c[1]))
                if cosine(x[f, p], x[best]) > 0.8:
                    links[f, p] = cosine(x[f, p], x[best]), best
        room = side * len(part) - sum(slots[f] for f in part)
        made = sorted(links, key=lambda c: (-links[c][0], c))[:room]
        parent = {c: links[c][1] for c in made}
        trees: dict[Cell, list[Cell]] = {c: [] for c in rest if c not in parent}
        for c in rest:
            root = c
            while root in parent:
                root = parent[root]
            trees[root].append(c)
        means = {}
        for root, mine in trees.items():
            number = 1 + sum(parent.get(c) == root for c in mine) if quirk else len(mine)
            means[root] = torch.stack([x[c] for c in mine]).sum(0) / number
        of_frame = [[c for c in rest if c[0] == f and c in trees] for f in part]
        for cells, k in zip(of_frame, quotas(sum(slots[f] - few[f] for f in part), [*map(len, of_frame)]), strict=True):
            values = [means[c] for c in cells]
            if k == 0:
                continue
            joined = clusters(values, k, min(7, k))
            out |= {cells[c]: torch.stack([values[i] for i in mine]).mean(0) for c, mine in joined.items()}
    return out


@pytest.mark.parametrize("quirk", [False, True])
@pytest.mark.parametrize(("frames", "least", "parts"), [(1, 8, [range(1)]), (7, 1, [range(4), range(4, 7)])])
def test_diverse_tokens_and_the_roots_of_trees(frames: int, least: int, parts: list[range], quirk: bool) -> None:
    scenes = [i // 4 for i in range(frames)]
    x = torch.stack([clip(frames, 10, 8, scenes, seed) for seed in (1, 2)])
    tokens = Tokens.dense(x.flatten(1, 2), Grid(frames, 2, 5))
    score = torch.rand(2, frames * 10, generator=torch.Generator().manual_seed(3))
    deep = 0.0
    for total in (1, frames * 5 + 2, frames * 9):
        method = FlashVID(segments=least, first=1, threshold=0.6, official_quirks=quirk)
        out = apply(tokens, method.fuse({"t": view(tokens, total, scores={"t": score})})["t"])
        assert out.counts().tolist() == [total] * 2
        for b in range(2):
            made = [reference(x[b].double(), score[b].view(frames, 10), total, parts, q) for q in (quirk, not quirk)]
            found = {divmod(int(out.origin[b, i]), 10): out.x[b, i].double() for i in range(total)}
            assert found.keys() == made[0].keys()
            assert all(torch.allclose(found[c], made[0][c], atol=1e-5) for c in found)
            deep += any(c in made[1] and not torch.allclose(made[0][c], made[1][c], atol=1e-3) for c in found)
    assert (deep > 0) == (frames > 1), "else there is no tree of more than two levels"


def test_three_in_ten_stay_late() -> None:
    tokens = Tokens.dense(torch.randn(1, 40, 8), Grid(4, 2, 5))
    seen = view(tokens, 6, scores={"t": torch.rand(1, 40)})
    assert apply(tokens, FlashVID().fuse({"t": seen})["t"]).counts().tolist() == [20]
    attention = torch.rand(1, 2, 1, 40)
    keep = FlashVID().decode(view(tokens, 6, attention=attention, tower="llm")).keep
    assert set(keep[0].nonzero()[:, 0].tolist()) == set(attention.mean(1)[0, 0].topk(6).indices.tolist())
