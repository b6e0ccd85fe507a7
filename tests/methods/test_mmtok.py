"""MMTok against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid
from meteor_bench.methods.mmtok import MMTok
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 5, 5)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    each = [math.exp(v - top) for v in values]
    return [e / sum(each) for e in each]


def reference(x: Tensor, words: Tensor, k: int, alpha: float) -> list[int]:
    """The two matrices row by row, and every gain anew."""
    rows = [[p / len(words) for p in softmax([cosine(w, v) / 0.02 for v in x])] for w in words]
    rows += [[alpha * p / len(x) for p in softmax([cosine(u, v) / 0.2 for v in x])] for u in x]
    chosen: list[int] = []
    while len(chosen) < k:
        held = [max([0.0, *(row[c] for c in chosen)]) for row in rows]
        gains = [sum(max(0.0, row[j] - h) for row, h in zip(rows, held, strict=True)) for j in range(len(x))]
        chosen.append(max((j for j in range(len(x)) if j not in chosen), key=lambda j: (gains[j], -j)))
    return chosen


@pytest.mark.parametrize("alpha", [0.5, 0.0, 3.0])
def test_tokens_that_cover_the_question_and_the_picture(alpha: float) -> None:
    counts = [25, 17, 5]
    tokens = ragged(counts, GRID, seed=2)
    text = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))
    text[1, 2:] = 0  # two words only
    for target in (1, 3, 8, 25):
        keep = MMTok(alpha=alpha).fuse({"t": view(tokens, target, text=text)})["t"].keep
        for b, count in enumerate(counts):
            at = visual_indices(tokens, b)
            words = text[b, : 2 if b == 1 else 4].double()
            want = reference(tokens.x[b, at].double(), words, min(target, count), alpha)
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in want}


def test_what_the_question_names_is_taken_first() -> None:
    tokens = ragged([25], GRID, seed=5)
    text = tokens.x[:, 18:19].clone()
    assert MMTok().fuse({"t": view(tokens, 1, text=text)})["t"].keep[0].nonzero().flatten().tolist() == [18]


def test_a_question_of_no_word_leaves_the_picture_to_cover() -> None:
    tokens = ragged([25, 12], GRID)
    decision = MMTok().fuse({"t": view(tokens, 6, text=torch.zeros(2, 3, 8))})["t"]
    assert decision.keep.sum(1).tolist() == [6, 6]
