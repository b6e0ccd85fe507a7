"""SCOPE against plain loops in float64."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid
from meteor_bench.methods.scope import Scope
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 5, 5)


def reference(x: Tensor, saliency: list[float], k: int, alpha: float, add: bool) -> set[int]:
    """Every gain anew from the definition, at every step."""
    n = len(x)
    v = (x / x.norm(dim=1, keepdim=True)).tolist()
    cos = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in v] for a in v]
    chosen: list[int] = []
    while len(chosen) < k:
        best, most = -1, -1.0
        for j in range(n):
            if j in chosen:
                continue
            gain = 0.0
            for i in range(n):
                held = max([0.0, *(cos[i][c] for c in chosen)])
                gain += max(0.0, cos[i][j] - held)
            gain = gain + saliency[j] ** alpha if add else gain * saliency[j] ** alpha
            if gain > most:
                best, most = j, gain
        chosen.append(best)
    return set(chosen)


@pytest.mark.parametrize("combination", ["multi", "add"])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_attended_tokens_that_cover_the_others(combination: Literal["multi", "add"], alpha: float) -> None:
    counts = [25, 14, 6]
    tokens = ragged(counts, GRID, cls=True)
    for target in (1, 4, 9, 25):
        seen = view(tokens, target)
        decision = Scope(alpha=alpha, combination=combination).encode({"t": seen})["t"]
        for b, count in enumerate(counts):
            at = visual_indices(tokens, b)
            saliency = seen.attention[b, at].double().tolist()
            want = reference(tokens.x[b, at].double(), saliency, min(target, count), alpha, combination == "add")
            assert {int(i) for i in decision.keep[b].nonzero()[:, 0]} == {at[p] for p in want}


def test_doubling_a_tokens_attention_never_loses_it_and_duplicates_are_not_both_taken() -> None:
    tokens = ragged([25], GRID, seed=4)
    x = tokens.x.clone()
    x[0, 7] = x[0, 3]  # the same picture twice
    tokens = tokens.with_x(x)
    attention = torch.full((1, 25), 0.5)
    kept = Scope().encode({"t": view(tokens, 8, attention=attention)})["t"].keep[0]
    assert int(kept[3]) + int(kept[7]) <= 1
    attention[0, 12] = 50.0
    assert bool(Scope().encode({"t": view(tokens, 1, attention=attention)})["t"].keep[0, 12])
