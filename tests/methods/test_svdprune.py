"""Leverage against a float64 SVD, and what leverage is for: a token in a direction of its own is kept."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.svdprune import SVDPrune, leverage
from tests.methods.views import ragged, view, visual_indices


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize(("side", "dim"), [(4, 8), (4, 40), (7, 12)])
@pytest.mark.parametrize("energy", [0.9, 0.6, 1.0])
def test_leverage(side: int, dim: int, energy: float, cls: bool) -> None:
    tokens = ragged([side * side, side * side - 5, 7], Grid(1, side, side), dim=dim, seed=side, cls=cls)
    got = leverage(tokens.x, tokens.visual, energy)
    keep = SVDPrune(energy=energy).encode({"t": view(tokens, 6)})["t"].keep
    for b in range(3):
        at = visual_indices(tokens, b)
        u, s, _ = torch.linalg.svd(tokens.x[b, at].double(), full_matrices=False)
        total, held, k = float((s**2).sum()), 0.0, 0
        while held < energy * total * (1 - 1e-12):
            held += float(s[k] ** 2)
            k += 1
        want = [sum(float(u[t, j] ** 2) for j in range(k)) / k for t in range(len(at))]
        assert all(abs(float(got[b, i]) - w) < 1e-4 for i, w in zip(at, want, strict=True))
        if energy < 1:
            best = sorted(range(len(at)), key=lambda p: -want[p])[:6]
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in best}


def test_a_direction_of_its_own_is_kept() -> None:
    g = torch.Generator().manual_seed(0)
    x = 0.05 * torch.randn(1, 25, 10, generator=g)
    x[..., 0] += 1.0
    x[0, 7, 3] = 4.0
    seen = view(Tokens.dense(x, Grid(1, 5, 5)), 1)
    assert SVDPrune(energy=0.95).encode({"t": seen})["t"].keep[0].nonzero().tolist() == [[7]]


def test_leverages_sum_to_one() -> None:
    tokens = ragged([16, 9], Grid(1, 4, 4), cls=True)
    assert torch.allclose(leverage(tokens.x, tokens.visual, 0.8).sum(1), torch.ones(2), atol=1e-5)
