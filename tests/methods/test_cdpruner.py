"""CDPruner against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pick import pick, rows_of
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.cdpruner import CDPruner, greedy_map, relevance
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 6, 6)
WORDS = (5, 2, 3)


def question(dim: int, seed: int = 0) -> Tensor:
    """[3, 5, D] embeddings of questions of 5, 2 and 3 tokens."""
    g = torch.Generator().manual_seed(seed)
    text = torch.randn(3, 5, dim, generator=g)
    return text * torch.tensor([[i < n for i in range(5)] for n in WORDS])[..., None]


def qualities(x: Tensor, text: Tensor, negate: bool) -> list[float]:
    mean = text.double().mean(0)
    r = [float(row @ mean / (row.norm() * mean.norm())) for row in x.double()]
    r = [-value for value in r] if negate else r
    return [(value - min(r) + 1e-6) / (max(r) - min(r)) if max(r) > min(r) else 1.0 for value in r]


def reference(x: Tensor, q: list[float], k: int) -> set[int]:
    """Greedily by whole determinants, no updates."""
    n, v = len(x), torch.stack([row / row.norm() for row in x.double()])
    kernel = torch.tensor(q).double()[:, None] * (v @ v.T) * torch.tensor(q).double()
    if k >= n:
        return set(range(n))
    chosen: list[int] = []
    while len(chosen) < k:
        before = float(torch.linalg.slogdet(kernel[chosen][:, chosen])[1]) if chosen else 0.0
        gain = {}
        for i in range(n):
            if i not in chosen:
                sign, log = torch.linalg.slogdet(kernel[[*chosen, i]][:, [*chosen, i]])
                gain[i] = math.exp(float(log) - before) if float(sign) > 0 else 0.0
        if max(gain.values()) <= 1e-10 * float(kernel.diag().max()):
            gain = {i: q[i] for i in gain}
        chosen.append(max(gain, key=lambda i: (gain[i], -i)))
    return set(chosen)


@pytest.mark.parametrize("negate", [True, False])
@pytest.mark.parametrize("dim", [7, 40])
def test_the_greedy_search(dim: int, negate: bool) -> None:
    counts = [36, 20, 1]
    tokens, text = ragged(counts, GRID, dim=dim, seed=dim), question(dim)
    for target in (1, 2, 6, 15):  # beyond 7 a kernel of 7 dimensions is exhausted
        decision = CDPruner(negate=negate).fuse({"t": view(tokens, target, text=text)})["t"]
        for b, words in enumerate(WORDS):
            at = visual_indices(tokens, b)
            q = qualities(tokens.x[b, at], text[b, :words], negate)
            assert torch.allclose(decision.score[b, at], torch.tensor(q).double(), atol=1e-9)  # type: ignore[index]
            want = reference(tokens.x[b, at], q, target)
            assert {at.index(int(i)) for i in decision.keep[b].nonzero()[:, 0]} == want


def test_the_authors_range_of_the_whole_batch() -> None:
    tokens, text = ragged([36, 20, 7], GRID, dim=9, seed=2), question(9)
    decision = CDPruner(official_quirks=True).fuse({"t": view(tokens, 5, text=text)})["t"]
    at = [visual_indices(tokens, b) for b in range(3)]
    r = []
    for b, words in enumerate(WORDS):
        mean = text[b, :words].double().mean(0)
        r.append(
            [-float(tokens.x[b, i].double() @ mean / (tokens.x[b, i].double().norm() * mean.norm())) for i in at[b]]
        )
    low, high = min(map(min, r)), max(map(max, r))
    for b in range(3):
        q = [(value - low + 1e-6) / (high - low) for value in r[b]]
        assert torch.allclose(decision.score[b, at[b]], torch.tensor(q).double(), atol=1e-9)  # type: ignore[index]
        kept = {at[b].index(int(i)) for i in decision.keep[b].nonzero()[:, 0]}
        assert kept == reference(tokens.x[b, at[b]], q, 5)
    for b in range(3):  # alone, a row is what it is without the quirk
        alone = ragged([36, 20, 7], GRID, dim=9, seed=2)
        alone = pick(rows_of(alone, torch.tensor([b])), alone.valid[b : b + 1])
        seen = view(alone, 5, text=text[b : b + 1])
        one, other = (CDPruner(official_quirks=q).fuse({"t": seen})["t"].keep for q in (False, True))
        assert torch.equal(one, other)


def test_of_equal_gains_the_lower_index_is_taken() -> None:
    """Axes of different length, all equally relevant: their determinants are equal, whatever 1/x times x rounds to."""
    x = torch.diag(torch.linspace(0.1, 7.3, 30))[None]
    allowed = torch.ones(1, 30, dtype=torch.bool)
    keep = greedy_map(x, torch.full((1, 30), 0.7).double(), torch.tensor([9]), allowed).keep
    assert keep[0].nonzero()[:, 0].tolist() == list(range(9))


def test_gains_do_not_increase() -> None:
    tokens = ragged([36, 30], GRID, dim=24)
    quality = relevance(tokens.x, torch.randn(2, 24), tokens.visual)
    gains = greedy_map(tokens.x, quality, torch.tensor([20, 12]), tokens.visual).gains
    for b, steps in enumerate((20, 12)):
        assert bool(gains[b, :steps].isfinite().all()) and bool((gains[b, :steps].diff() <= 1e-12).all())
        assert bool(gains[b, steps:].isnan().all())


@pytest.mark.parametrize("side", [16, 24])
def test_budgets_are_exact_beyond_the_features_rank(side: int) -> None:
    tokens = ragged([side**2, side**2], Grid(1, side, side), dim=6)
    for ratio in (0.5, 0.667, 0.76, 0.778, 0.889, 0.944):
        target = round((1 - ratio) * side**2)
        seen = view(tokens, target, text=question(6)[:2])
        assert CDPruner().fuse({"t": seen})["t"].keep.sum(1).tolist() == [target] * 2


def test_a_row_does_not_depend_on_its_batch_or_the_other_questions_length() -> None:
    tokens, text = ragged([36, 20, 29], GRID), question(8)
    together = CDPruner().fuse({"t": view(tokens, 9, text=text)})["t"].keep
    for b, words in enumerate(WORDS):
        quality = relevance(tokens.x[b : b + 1], text[b : b + 1, :words].mean(1), tokens.visual[b : b + 1])
        alone = greedy_map(tokens.x[b : b + 1], quality, torch.tensor([9]), tokens.visual[b : b + 1]).keep
        assert torch.equal(alone[0], together[b])


def test_the_question_is_needed() -> None:
    with pytest.raises(UnsupportedError, match=r"FuseView.text was not asked for here: say FusePoint\(text=True\)"):
        CDPruner().fuse({"t": view(ragged([36], GRID), 5, kind="fuse")})
