"""HoloV against loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.holov import HoloV
from tests.methods.views import ragged, view, visual_indices


def reference(x: Tensor, attention: list[float], k: int, crops: int, quirks: bool = False) -> set[int]:
    """Places kept of one image; with quirks what a crop cannot hold is lost."""
    n = len(attention)
    runs, start = [], 0
    for p in range(crops):
        size = n // crops + (p < n % crops)
        runs.append(list(range(start, start + size)))
        start += size
    runs = [run for run in runs if run]
    unit = [row / row.norm() for row in x.double()]
    scores = []
    for run in runs:
        s = len(run)
        looked = [1000 * attention[i] for i in run]
        spread = []
        for i in run:
            cosines = [0.0 if i == j else float(unit[i] @ unit[j]) for j in run]
            mean = sum(cosines) / max(1, s - 1)
            spread.append(sum((c - mean) ** 2 for c in cosines) / max(1, s - 1))
        factor = (sum(looked) / s) / (sum(spread) / s + 1e-6)
        scores.append(sum(a + 0.09 * v * factor for a, v in zip(looked, spread, strict=True)) / s)
        if quirks and s == 1:
            scores[-1] = attention[run[0]]
    kept = [0] * len(runs)
    while sum(kept) < k:
        free = [p for p in range(len(runs)) if kept[p] < len(runs[p])]
        left, mass = k - sum(kept), sum(scores[p] for p in free)
        more = {p: int(scores[p] / (mass + 1e-6) * left) for p in free}
        extra = left - sum(more.values())
        for p in sorted(free, key=lambda p: -scores[p])[:extra]:
            more[p] += 1
        for p in free:
            kept[p] = min(len(runs[p]), kept[p] + more[p])
        if quirks:
            break
    return {i for run, m in zip(runs, kept, strict=True) for i in sorted(run, key=lambda i: -attention[i])[:m]}


@pytest.mark.parametrize("side", [5, 8])
@pytest.mark.parametrize("crops", [16, 3])
def test_crops_budgets_and_attention(side: int, crops: int) -> None:
    n, method = side * side, HoloV(crops=crops)
    for seed in range(2):
        tokens = ragged([n, n - 4, 13], Grid(1, side, side), seed=seed)
        for skew in (1, 8):
            g = torch.Generator().manual_seed(seed)
            attention = torch.rand(*tokens.x.shape[:2], generator=g) ** skew / n
            cell = torch.where(tokens.visual, tokens.origin, n)
            scores = {"t": torch.zeros(3, n + 1).scatter(1, cell, attention)[:, :n]}
            for b, count in enumerate((n, n - 4, 13)):
                for target in (0, 1, 7, 12, n - 1, n):
                    if target > count:
                        continue
                    seen = view(tokens, target, tower="t", scores=scores)
                    keep = method.fuse({"t": seen})["t"].keep
                    at = visual_indices(tokens, b)
                    want = reference(tokens.x[b, at], [float(attention[b, i]) for i in at], target, crops)
                    assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in want}


@pytest.mark.parametrize("crops", [16, 3])
def test_the_authors_tokens_of_zeros(crops: int) -> None:
    """What a crop cannot hold becomes zeros behind the others; the count is the budget all the same."""
    surplus = False
    for seed, counts in ((0, [25, 21, 13]), (1, [25, 25, 18])):
        tokens = ragged(counts, Grid(1, 5, 5), seed=seed)
        g = torch.Generator().manual_seed(seed)
        attention = torch.rand(*tokens.x.shape[:2], generator=g) ** 8 / 25
        cell = torch.where(tokens.visual, tokens.origin, 25)
        scores = {"t": torch.zeros(3, 26).scatter(1, cell, attention)[:, :25]}
        for target in (1, 7, 12):
            method = HoloV(crops=crops, official_quirks=True)
            out = apply(tokens, method.fuse({"t": view(tokens, target, tower="t", scores=scores)})["t"])
            for b in range(3):
                at = visual_indices(tokens, b)
                a = [float(attention[b, i]) for i in at]
                kept = sorted(reference(tokens.x[b, at], a, target, crops, quirks=True))
                got = out.x[b, visual_indices(out, b)]
                assert len(got) == target and torch.equal(got[: len(kept)], tokens.x[b, [at[p] for p in kept]])
                assert not got[len(kept) :].any()
                surplus |= len(kept) < target
    assert surplus
    assert HoloV().ordered and not HoloV(official_quirks=True).ordered


def test_tokens_of_every_region_survive_where_attention_is_peaked() -> None:
    """What the paper is about: attention alone would keep one region."""
    tokens = ragged([64], Grid(1, 8, 8))
    peaked = torch.full((1, 64), 0.01)
    peaked[0, :16] += 0.02
    seen = view(tokens, 16, scores={"t": peaked})
    keep = HoloV(crops=4).fuse({"t": seen})["t"].keep[0]
    kept = keep.reshape(4, 16).sum(1)
    assert int(kept[0]) == int(kept.max()) and int(kept.min()) >= 1 and int(kept.sum()) == 16


def test_the_encode_point_only_scores() -> None:
    tokens = ragged([16, 9], Grid(1, 4, 4), cls=True)
    decision = HoloV().encode({"t": view(tokens, 3)})["t"]
    assert torch.equal(decision.keep, tokens.visual) and decision.score is not None
