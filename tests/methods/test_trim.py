"""TRIM against plain loops in float64."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.trim import Trim
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 6, 6)


@pytest.mark.parametrize("negate", [True, False])
@pytest.mark.parametrize("counts", [[36, 36], [36, 20, 1]])
def test_the_best_and_the_mean_of_the_rest(counts: list[int], negate: bool) -> None:
    tokens = ragged(counts, GRID, dim=8, seed=3)
    text = torch.randn(len(counts), 4, 8, generator=torch.Generator().manual_seed(1))
    text[1, 2:] = 0  # two tokens only
    for target in (1, 2, 9, 36):
        out = apply(tokens, Trim(negate=negate).fuse({"t": view(tokens, target, text=text)})["t"])
        for b, count in enumerate(counts):
            at = visual_indices(tokens, b)
            words = text[b, : 2 if b == 1 else 4].double()
            dots = {i: float(tokens.x[b, i].double() @ words.mean(0)) * (-1 if negate else 1) for i in at}
            ranked = sorted(at, key=lambda i: (-dots[i], i))
            if target >= count:
                want, rest = at, []
            else:
                want, rest = sorted(ranked[: target - 1]), ranked[target - 1 :]
            assert int(out.valid[b].sum()) == min(target, count)
            assert torch.equal(out.x[b, : len(want)], tokens.x[b, want])  # as they are, in spatial order
            if rest:  # then one more
                weight = tokens.size[b, rest].double()
                mean = (tokens.x[b, rest].double() * weight[:, None]).sum(0) / weight.sum()
                assert torch.allclose(out.x[b, len(want)].double(), mean, atol=1e-5)
                assert int(out.origin[b, len(want)]) == int(tokens.origin[b, rest[0]])
                assert float(out.size[b, len(want)]) == float(weight.sum())


@pytest.mark.parametrize("side", [16, 24])
def test_budgets_are_exact_and_no_patch_is_lost(side: int) -> None:
    tokens = ragged([side**2] * 2, Grid(1, side, side), dim=6)
    for ratio in (0.5, 0.667, 0.76, 0.778, 0.889, 0.944):
        target = round((1 - ratio) * side**2)
        out = apply(tokens, Trim().fuse({"t": view(tokens, target, text=torch.ones(2, 1, 6))})["t"])
        assert out.counts().tolist() == [target] * 2
        assert torch.equal(out.size.sum(1), tokens.size.sum(1))


def test_the_rest_in_its_mean_keeps_the_sum_of_all_features() -> None:
    """What TRIM claims of its extra token: nothing that was removed is lost from the total."""
    tokens = ragged([36, 30], GRID, seed=2)
    out = apply(tokens, Trim().fuse({"t": view(tokens, 7, text=torch.randn(2, 3, 8))})["t"])
    before = (tokens.x * (tokens.size * tokens.visual)[..., None]).sum(1)
    assert torch.allclose((out.x * out.size[..., None]).sum(1), before, atol=1e-3)
