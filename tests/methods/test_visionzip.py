"""VisionZip against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.visionzip import VisionZip
from tests.methods.views import ragged, view, visual_indices


def reference(x: Tensor, keys: Tensor, attention: list[float], k: int) -> dict[int, Tensor]:
    """{place: features} of what is kept of one image."""
    n = len(attention)
    few = math.floor(k * 10 / 64 + 0.5)
    dominant = sorted(range(n), key=lambda i: -attention[i])[: k - few]
    rest = [i for i in range(n) if i not in dominant]
    out = {i: x[i].double() for i in dominant}
    if few == 0:
        return out
    step = max(1, len(rest) // few)
    targets = rest[::step][:few]
    joined: dict[int, list[int]] = {t: [] for t in targets}
    unit = [key / key.norm() for key in keys.double()]
    for i in rest:
        if i not in targets:
            joined[max(targets, key=lambda t: float(unit[i] @ unit[t]))].append(i)
    for t, members in joined.items():
        out[t] = x[t].double()
        if members:
            out[t] = out[t] + sum((x[i].double() for i in members), torch.zeros(x.shape[1])) / len(members)
    return out


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("side", [5, 8])
def test_dominant_and_contextual_tokens(side: int, with_keys: bool, cls: bool) -> None:
    n = side * side
    for seed in range(2):
        tokens = ragged([n, n - 4, 13], Grid(1, side, side), seed=seed, cls=cls)
        g = torch.Generator().manual_seed(seed)
        keys = torch.randn(*tokens.x.shape[:2], 5, generator=g) if with_keys else None
        for target in (1, 6, 13, n):
            seen = view(tokens, target, seed=seed, keys=keys)
            assert seen.attention is not None
            out = apply(tokens, VisionZip().encode({"t": seen})["t"])
            for b in range(3):
                at = visual_indices(tokens, b)
                k = min(target, len(at))
                want = reference(
                    tokens.x[b, at],
                    tokens.x[b, at] if keys is None else keys[b, at],
                    [float(seen.attention[b, i]) for i in at],
                    k,
                )
                slots = visual_indices(out, b)
                assert out.origin[b, slots].tolist() == [int(tokens.origin[b, at[p]]) for p in sorted(want)]
                assert len(slots) == k
                for slot, p in zip(slots, sorted(want), strict=True):
                    assert torch.allclose(out.x[b, slot].double(), want[p], atol=1e-5)


@pytest.mark.parametrize(("total", "few"), [(192, 30), (128, 20), (64, 10)])
def test_the_published_splits(total: int, few: int) -> None:
    tokens = ragged([576], Grid(1, 24, 24))
    seen = view(tokens, total)
    assert seen.attention is not None
    keep = VisionZip().encode({"t": seen})["t"].keep[0]
    top = set(seen.attention[0].argsort(descending=True)[: total - few].tolist())
    kept = {int(i) for i in keep.nonzero()[:, 0]}
    assert top <= kept and len(kept - top) == few


def test_every_token_left_out_is_in_a_contextual_one() -> None:
    """What the paper claims over plain selection: what is dropped is merged, once each, not lost."""
    tokens = ragged([64, 50], Grid(1, 8, 8), cls=True)
    seen = view(tokens, 20)
    assert seen.attention is not None
    decision = VisionZip().encode({"t": seen})["t"]
    out = apply(tokens, decision)
    for b, n in enumerate((64, 50)):
        assert int((out.group[b] >= 0).sum()) == n
        top = seen.attention[b].masked_fill(~tokens.visual[b], -1.0).argsort(descending=True)[:17]
        dominant = set(tokens.origin[b, top].tolist())
        assert all(int((out.group[b] == cell).sum()) == 1 for cell in dominant)


def test_wrong_share() -> None:
    with pytest.raises(ConfigError, match="contextual=2"):
        VisionZip(contextual=2.0)
