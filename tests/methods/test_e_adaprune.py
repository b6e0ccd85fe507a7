"""E-AdaPrune against loops in float64: the budget from the spectrum, then any selector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.pruner import View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.e_adaprune import BASES, EAdaPrune
from tests.methods.views import clustered, ragged, view, visual_indices


def reference(x: Tensor, tau: float) -> int:
    """K of one image."""
    n, d = x.shape
    s = torch.linalg.svdvals(x.double())
    total, held, k = float((s**2).sum()), 0.0, 0
    while held < tau * total:
        held += float(s[k] ** 2)
        k += 1
    return max(1, int(n * k / min(n, d) + 0.5))


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("dim", [4, 30, 80])
def test_the_budget_is_the_rank_that_holds_the_energy(dim: int, cls: bool) -> None:
    counts = [49, 40, 6]
    tokens = ragged(counts, Grid(1, 7, 7), dim=dim, seed=dim, cls=cls)
    for tau in (0.5, 0.8, 0.97):
        bar = float(torch.log10(torch.tensor(1 - tau, dtype=torch.float64)))
        facts = {"e-adaprune.threshold": {"t": bar}}
        seen = view(tokens, 5, facts=facts)
        assert seen.attention is not None
        keep = EAdaPrune().encode({"t": seen})["t"].keep
        for b in range(3):
            at = visual_indices(tokens, b)
            k = reference(tokens.x[b, at], tau)
            best = sorted(at, key=lambda i: -float(seen.attention[b, i]))[:k]  # type: ignore[index]
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == set(best)


def fitted(method: EAdaPrune, seen: View) -> Mapping[str, Any]:
    """What is measured where each row's image has one question."""
    return method.fit(
        "encode", {**method.observe_encode(seen), "requests": torch.ones(len(seen.target), dtype=torch.long)}
    )


@pytest.mark.parametrize("base", list(BASES))
def test_any_base_meets_the_budget_on_average(base: str) -> None:
    method = EAdaPrune(base=base)
    tokens = Tokens.dense(clustered(10, 65, 96, 3), Grid(1, 8, 8), specials=1)
    for target in (4, 15, 32, 64):
        seen = view(tokens, target)
        facts = fitted(method, seen)
        counts = apply(tokens, method.encode({"t": seen.changed(facts=facts)})["t"]).counts()
        assert abs(float(counts.double().mean()) - target) <= 0.5
        assert facts["e-adaprune.calibrated"]["mean"] == float(counts.double().mean())


def test_simple_images_get_fewer_tokens() -> None:
    """What the paper claims: the budget follows the image's complexity."""
    g = torch.Generator().manual_seed(0)
    simple = torch.randn(1, 2, 80, generator=g).repeat_interleave(32, 1) + 0.01 * torch.randn(1, 64, 80, generator=g)
    rich = torch.randn(1, 64, 80, generator=g)
    tokens = Tokens.dense(torch.cat([simple, rich]), Grid(1, 8, 8))
    method, seen = EAdaPrune(), view(tokens, 20)
    facts = fitted(method, seen)
    few, many = method.encode({"t": seen.changed(facts=facts)})["t"].keep.sum(1).tolist()
    assert few + many == 40 and few < 5


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ConfigError, match=r"e-adaprune.*calibrate"):
        EAdaPrune().encode({"t": view(ragged([16], Grid(1, 4, 4)), 4)})
