"""HoloV against loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.errors import ConfigError
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.holov import HoloV
from tests.methods.views import ragged, view, visual_indices


def reference(x: Tensor, attention: list[float], k: int, crops: int) -> set[int]:
    """Places kept of one image."""
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


def test_wrong_hyperparameters() -> None:
    with pytest.raises(ConfigError, match="crops"):
        HoloV(crops=0)
