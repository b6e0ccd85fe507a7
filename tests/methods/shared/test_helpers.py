"""The shared pieces against plain loops."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.groups import absorb
from meteor_bench.methods.shared.helpers import noise, similarity_to_mean, split_total, strided
from tests.methods.views import ragged, view, visual_indices


def test_split_total_is_the_budgets_split_in_a_batch() -> None:
    rng = random.Random(0)
    for _ in range(200):
        names = [f"t{i}" for i in range(rng.randint(1, 4))]
        rows = 3
        caps = {n: [rng.choice([0, 1, 5, 64, 256]) for _ in range(rows)] for n in names}
        weights = {n: [rng.choice([0.0, 1.0, rng.random() * 20]) for _ in range(rows)] for n in names}
        totals = [rng.randint(0, sum(caps[n][b] for n in names)) for b in range(rows)]
        got = split_total(
            torch.tensor(totals),
            {n: torch.tensor(w, dtype=torch.float64) for n, w in weights.items()},
            {n: torch.tensor(c) for n, c in caps.items()},
        )
        for b in range(rows):
            row = {n: int(got[n][b]) for n in names}
            assert sum(row.values()) == totals[b]
            assert all(0 <= row[n] <= caps[n][b] for n in names)
            if totals[b] > 0:
                want = TokenBudget.split(totals[b], {n: weights[n][b] for n in names}, {n: caps[n][b] for n in names})
                assert row == want


def test_split_total_clips_to_what_there_is() -> None:
    got = split_total(torch.tensor([9]), {"a": 1.0, "b": 1.0}, {"a": torch.tensor([2]), "b": torch.tensor([3])})
    assert (int(got["a"]), int(got["b"])) == (2, 3)


def test_split_total_follows_the_weights() -> None:
    caps = {n: torch.tensor([1000]) for n in "abc"}
    got = split_total(torch.tensor([100]), {"a": 10.0, "b": 25.0, "c": 6.0}, caps)
    assert {n: int(k) for n, k in got.items()} == {"a": 24, "b": 61, "c": 15}


def test_strided_takes_the_middle_of_equal_runs() -> None:
    tokens = ragged([9, 16, 1, 7], Grid(1, 4, 4), cls=True)
    for k in (0, 1, 3, 7, 16, 40):
        keep = strided(tokens.visual, torch.full((4,), k))
        for b in range(4):
            at = visual_indices(tokens, b)
            n, kept = len(at), min(k, len(at))
            want = {at[math.floor((i + 0.5) * n / kept)] for i in range(kept)}
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == want
            assert len(want) == kept


def test_similarity_to_mean() -> None:
    tokens = ragged([9, 5, 12], Grid(1, 4, 4), cls=True)
    got = similarity_to_mean(tokens.x, tokens.visual)
    for b in range(3):
        at = visual_indices(tokens, b)
        x = tokens.x[b].double()
        mean = sum((x[i] for i in at), torch.zeros(8, dtype=torch.float64)) / len(at)
        for i in range(tokens.x.shape[1]):
            want = float(x[i] @ mean / (x[i].norm() * mean.norm())) if i in at else 0.0
            assert abs(float(got[b, i]) - want) < 1e-5


def test_noise_is_a_samples_own() -> None:
    tokens = ragged([9, 16], Grid(1, 4, 4))
    both = noise(view(tokens, 4))
    again = noise(view(tokens, 4))
    assert torch.equal(both, again)
    alone = ragged([9], Grid(1, 4, 4))
    alone = replace(alone, origin=tokens.origin[:1, :9])
    assert torch.equal(noise(view(alone, 4))[0], both[0, :9])


def test_absorb_is_the_weighted_mean() -> None:
    x = torch.tensor([[[1.0], [3.0], [5.0], [100.0]]])
    size = torch.tensor([[1.0, 3.0, 1.0, 1.0]])
    out = absorb(x, size, torch.tensor([[0, 0, 2, -1]]))
    assert out[0, :, 0].tolist() == [2.5, 0.0, 5.0, 0.0]
