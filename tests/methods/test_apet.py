"""ApET against plain loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.apet import ApET, approximation_error, farthest_points
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 6, 6)


def spread(x: Tensor, k: int) -> list[int]:
    mean = x.mean(0)
    found = [max(range(len(x)), key=lambda i: (float((x[i] - mean).norm()), -i))]
    while len(found) < k:
        gap = [min(float((x[i] - x[j]).norm()) for j in found) for i in range(len(x))]
        found.append(max(range(len(x)), key=lambda i: (gap[i], -i)))
    return found


def errors(x: Tensor, basis: list[int]) -> list[float]:
    """The ridge regression of each token on the basis, by least squares on the stacked system."""
    b = x[basis].T  # [D, K]
    stacked = torch.cat([b, 1e-5**0.5 * torch.eye(len(basis), dtype=x.dtype)])
    out = []
    for token in x:
        right = torch.cat([token, torch.zeros(len(basis), dtype=x.dtype)])
        weight = torch.linalg.lstsq(stacked, right[:, None]).solution[:, 0]
        out.append(float((token - b @ weight).norm()))
    return out


def reference(x: Tensor, k: int, most: int, by_error: bool = False) -> tuple[list[int], list[Tensor]]:
    """Indices that stay, in order, and what the language model gets in their places."""
    basis = spread(x, most)
    error = errors(x, basis)
    kept = sorted(range(len(x)), key=lambda i: (-error[i], i))[:k]
    weakest = sorted(kept, key=lambda i: (error[i], i))[: min(most, k)]
    strong = sorted(set(kept) - set(weakest))
    mine = {i: [i] for i in strong}
    for i in set(range(len(x))) - set(kept):
        if strong:
            near = max(strong, key=lambda s: (float(x[s] @ x[i] / (x[s].norm() * x[i].norm())), -s))
            mine[near].append(i)
    seats = sorted(weakest, key=lambda i: -error[i]) if by_error else sorted(weakest)
    said = {i: x[mine[i]].mean(0) for i in strong} | {w: x[b] for w, b in zip(seats, basis, strict=False)}
    return sorted(kept), [said[i] for i in sorted(kept)]


@pytest.mark.parametrize("basis", [1, 3, 6])
def test_the_worst_approximated_stay_with_the_basis_among_them(basis: int) -> None:
    counts = [36, 22]
    tokens = ragged(counts, GRID, dim=12, seed=basis)
    for target in (2, 5, 9):
        decision = ApET(basis=basis, first=1.0).encode({"t": view(tokens, target)})["t"]
        out = apply(tokens, decision)
        for b in range(2):
            at = visual_indices(tokens, b)
            want, said = reference(tokens.x[b, at].double(), target, basis)
            assert {int(i) for i in decision.keep[b].nonzero()[:, 0]} == {at[p] for p in want}
            assert torch.allclose(out.x[b, :target].double(), torch.stack(said), atol=1e-4)


@pytest.mark.parametrize("basis", [1, 3, 6])
def test_in_the_language_model_the_basis_stands_by_falling_error(basis: int) -> None:
    tokens = ragged([36, 22], GRID, dim=12, seed=basis)
    moved = 0
    for target in (2, 5, 9):
        out = apply(tokens, ApET(basis=basis).decode(view(tokens, target, tower="llm")))
        for b in range(2):
            at = visual_indices(tokens, b)
            x = tokens.x[b, at].double()
            want, said = reference(x, target, basis, by_error=True)
            assert out.origin[b, :target].tolist() == tokens.origin[b, at][want].tolist()
            assert torch.allclose(out.x[b, :target].double(), torch.stack(said), atol=1e-4)
            moved += not torch.equal(torch.stack(said), torch.stack(reference(x, target, basis)[1]))
    assert moved > 0 or basis == 1


def test_three_times_the_budget_before_the_language_model_and_the_rest_inside() -> None:
    tokens = ragged([36], GRID, dim=12)
    assert int(ApET().encode({"t": view(tokens, 7)})["t"].keep.sum()) == 21
    assert int(ApET().decode(view(tokens, 7, tower="llm")).keep.sum()) == 7


def test_what_the_basis_spans_has_no_error() -> None:
    g = torch.Generator().manual_seed(0)
    few = torch.randn(1, 4, 16, generator=g)
    x = torch.cat([few, torch.rand(1, 9, 4, generator=g) @ few], 1)
    error = approximation_error(x, torch.arange(4)[None])
    assert float(error.max()) < 1e-3
    assert int(farthest_points(x, torch.ones(1, 13, dtype=torch.bool), 4).unique().numel()) == 4
