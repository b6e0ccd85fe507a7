"""VisPruner against loops in float64, and what its second half is for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid
from meteor_bench.methods.vispruner import VisPruner
from tests.methods.views import ragged, view, visual_indices


def reference(x: Tensor, attention: list[float], k: int, ratio: float, step: int) -> set[int]:
    """Places kept of one image."""
    n = len(attention)
    unit = [row / row.norm() for row in x.double()]
    by_attention = sorted(range(n), key=lambda i: -attention[i])
    first = int(k * ratio)
    important, left = by_attention[:first], by_attention[first:]
    while len(left) > k - first:
        drop = min(step, len(left) - (k - first))
        even, odd = left[0::2], left[1::2]
        best = {i: max((float(unit[i] @ unit[j]) for j in odd), default=0.0) for i in even}
        ranked = sorted(even, key=lambda i: -best[i])
        left = ranked[drop:] + odd
    return {*important, *left}


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("side", [5, 8])
@pytest.mark.parametrize("method", [VisPruner(), VisPruner(important=0.25, step=3), VisPruner(important=0.0)], ids=str)
def test_important_and_diverse_tokens(method: VisPruner, side: int, cls: bool) -> None:
    n = side * side
    for seed in range(3):
        tokens = ragged([n, n - 4, 13], Grid(1, side, side), seed=seed, cls=cls)
        for target in (0, 1, 7, 12, n - 1, n):
            seen = view(tokens, target, seed=seed)
            assert seen.attention is not None
            keep = method.encode({"t": seen})["t"].keep
            for b in range(3):
                at = visual_indices(tokens, b)
                k = min(target, len(at))
                attention = [float(seen.attention[b, i]) for i in at]
                want = reference(tokens.x[b, at], attention, k, method.important, method.step)
                assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in want}
                assert len(want) == k


def test_the_second_half_is_more_diverse_than_attention_alone() -> None:
    tokens = ragged([196] * 4, Grid(1, 14, 14), dim=16)
    seen = view(tokens, 40)

    def likeness(method: VisPruner) -> float:
        keep = method.encode({"t": seen})["t"].keep
        total = 0.0
        for b in range(4):
            x = torch.nn.functional.normalize(tokens.x[b][keep[b]], dim=-1)
            total += float((x @ x.T).fill_diagonal_(-1).amax(1).mean())
        return total

    assert likeness(VisPruner()) < likeness(VisPruner(important=1.0)) - 0.02
