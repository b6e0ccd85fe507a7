"""PruMerge against loops in float64; its calibration; what the probe reads for it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.pruner import View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.prumerge import PruMerge, PruMergePlus
from meteor_bench.methods.shared.adaptive import fit_threshold
from tests.methods.views import clustered, ragged, view, visual_indices

Sum = dict[int, Tensor]


def percentile(values: list[float], q: float) -> float:
    """Linear interpolation."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def reference(x: Tensor, keys: Tensor, a: list[float], c: float, uniform: str, each: float | None = None) -> Sum:
    """{place: features} of what is left of one image, in the authors' order (topk, arange, extra token).

    ``each`` uniform samples for an outlier, or three.
    """
    n, x = len(a), x.double()
    low, high = percentile(a, 0.25), percentile(a, 0.75)
    outliers = [i for i in range(n) if (a[i] - high) / (high - low) > c]
    m = len(outliers)
    kept, samples = sorted(outliers, key=lambda i: -a[i]), []
    if uniform == "spread":
        u = min(3 * m if each is None else math.ceil(each * max(m, 1) - 0.5), n)
        samples = [math.floor((i + 0.5) * n / u) for i in range(u)]
    if uniform == "step" and m > 0:
        samples = list(range(0, n - 1, max(1, int(int(n / m) / 3))))
    kept += [i for i in samples if i not in outliers]
    if len(kept) == n:
        return {i: x[i] for i in range(n)}
    unit = [key / key.norm() for key in keys.double()]
    out = {}
    for i in kept:
        others = sorted((j for j in range(n) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:32]
        out[i] = x[i] + sum((a[j] * x[j] for j in others), torch.zeros_like(x[i]))
    dropped = [i for i in range(n) if i not in kept]
    carrier = max(dropped, key=lambda i: a[i])
    out[carrier] = sum((a[j] * x[j] for j in dropped), torch.zeros_like(x[0]))
    return out


def attention_for(tokens: Tokens, seed: int) -> Tensor:
    """[B, N] heavy-tailed, most of it on the visual tokens."""
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(tokens.x.shape[:2], generator=g) ** 6
    return a / (a * tokens.visual).sum(1, keepdim=True) * 0.9


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("side", [5, 8])
@pytest.mark.parametrize(
    ("method", "uniform"),
    [
        (PruMerge(whisker=1.5), "none"),
        (PruMerge(whisker=0.2), "none"),
        (PruMergePlus(whisker=1.5), "spread"),
        (PruMergePlus(whisker=1.5, official_quirks=True), "step"),
        (PruMergePlus(whisker=0.01), "spread"),
    ],
    ids=str,
)
def test_outliers_neighbours_and_the_extra_token(method: PruMerge, uniform: str, side: int, cls: bool) -> None:
    n = side * side
    for seed in range(2):
        tokens = ragged([n, n - 4, 9], Grid(1, side, side), seed=seed, cls=cls)
        g = torch.Generator().manual_seed(seed)
        keys = torch.randn(*tokens.x.shape[:2], 5, generator=g)
        attention = attention_for(tokens, seed)
        out = apply(tokens, method.encode({"t": view(tokens, 5, attention=attention, keys=keys)})["t"])
        for b in range(3):
            at = visual_indices(tokens, b)
            a = [float(v) for v in attention[b, at].double()]
            want = reference(tokens.x[b, at], keys[b, at], a, method.whisker, uniform)
            slots = visual_indices(out, b)
            assert out.origin[b, slots].tolist() == [int(tokens.origin[b, at[p]]) for p in want]
            for slot, p in zip(slots, want, strict=True):
                assert torch.allclose(out.x[b, slot].double(), want[p], atol=1e-4)
            assert int(out.size[b, slots].sum()) == int(tokens.size[b, at].sum())


@pytest.mark.parametrize("each", [0.0, 0.4, 1.7])
@pytest.mark.parametrize("side", [5, 8])
def test_the_calibrated_number_of_samples_for_an_outlier(side: int, each: float) -> None:
    n = side * side
    tokens = ragged([n, n - 4, 9], Grid(1, side, side), seed=side)
    attention = attention_for(tokens, side)
    threshold = 0.5 if each == 0 else -each
    seen = view(tokens, 5, attention=attention, facts={"prumerge+.threshold": {"t": threshold}})
    out = apply(tokens, PruMergePlus().encode({"t": seen})["t"])
    for b in range(3):
        at = visual_indices(tokens, b)
        a = [float(v) for v in attention[b, at].double()]
        want = reference(tokens.x[b, at], tokens.x[b, at], a, 1.5, "spread" if each else "none", each)
        assert out.origin[b, visual_indices(out, b)].tolist() == [int(tokens.origin[b, at[p]]) for p in want]


def facts_of(method: PruMerge, views: list[View]) -> Mapping[str, Any]:
    seen = [{**method.observe_encode(v), "requests": torch.ones(len(v.target), dtype=torch.long)} for v in views]
    return method.fit("encode", {name: torch.cat([s[name] for s in seen]) for name in seen[0]})


@pytest.mark.parametrize("method", [PruMerge(), PruMergePlus()], ids=str)
def test_the_calibrated_threshold_meets_the_budget_on_average(method: PruMerge) -> None:
    for target in (4, 7, 16, 40, 64):
        tokens = Tokens.dense(clustered(12, 65, 6, 3), Grid(1, 8, 8), specials=1)
        seen = view(tokens, target, attention=attention_for(tokens, 1))
        facts = facts_of(method, [seen])
        out = apply(tokens, method.encode({"t": seen.changed(facts=facts)})["t"])
        mean = float(out.counts().double().mean())
        assert abs(mean - target) <= 0.5
        assert facts[f"{method.title}.calibrated"]["mean"] == mean
        assert out.counts().min() >= 1
        if target == 64:
            assert torch.equal(out.x, tokens.x)


@pytest.mark.parametrize("method", [PruMerge, PruMergePlus])
def test_the_same_tokens_in_spatial_order(method: type[PruMerge]) -> None:
    tokens = ragged([64, 50], Grid(1, 8, 8))
    seen = view(tokens, 20, attention=attention_for(tokens, 3))
    authors, spatial = (
        apply(tokens, method(whisker=1.5, order=order).encode({"t": seen})["t"])  # type: ignore[arg-type]
        for order in ("authors", "spatial")
    )
    for b in range(2):
        at, left = spatial.origin[b, spatial.visual[b]], authors.origin[b, authors.visual[b]]
        assert (at.diff() > 0).all() and not (left.diff() > 0).all()
        assert torch.equal(spatial.x[b, : len(at)], authors.x[b, : len(at)][left.argsort()])


def test_of_equally_near_tokens_the_first_are_taken_in() -> None:
    """A flat picture: all keys alike, so that every other token is equally near."""
    x = torch.eye(50)[None]
    attention = torch.full((1, 50), 0.001)
    attention[0, [7, 40]] = 0.4
    method = PruMerge(whisker=1.5, neighbours=32)
    tokens = Tokens.dense(x, Grid(1, 5, 10))
    decision = method.encode({"t": view(tokens, 5, attention=attention, keys=torch.ones(1, 50, 3))})["t"]
    out = apply(tokens, decision)
    for slot, own in ((0, 7), (1, 40)):
        first = [i for i in range(50) if i != own][:32]
        assert out.x[0, slot].nonzero()[:, 0].tolist() == sorted({own, *first})


def test_richer_images_keep_more() -> None:
    """What the paper claims: the count follows the image."""
    tokens = Tokens.dense(clustered(2, 64, 6, 3), Grid(1, 8, 8))
    flat = torch.full((1, 64), 1 / 64) + 1e-4 * torch.arange(64) / 64
    peaked = flat.clone()
    peaked[0, ::6] += 0.05
    out = apply(tokens, PruMerge(whisker=1.5).encode({"t": view(tokens, 5, attention=torch.cat([flat, peaked]))})["t"])
    assert out.counts().tolist() == [1, 12]


def test_a_frame_without_a_share_is_dropped_and_facts_are_asked_for() -> None:
    tokens = ragged([16, 16], Grid(1, 4, 4))
    decision = PruMerge(whisker=1.5).encode({"t": view(tokens, [0, 4])})["t"]
    assert apply(tokens, decision).counts()[0] == 0
    with pytest.raises(ConfigError, match=r"prumerge:.*calibrate"):
        PruMerge().encode({"t": view(tokens, 4)})
    assert PruMerge(whisker=1.5).calibration == () and PruMerge().calibration


def test_fit_threshold_is_the_best_there_is() -> None:
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        values = torch.rand(4, 9, generator=g).double()
        values[2, 5:] = torch.nan
        counts = torch.randint(0, 3, (4, 10), generator=g).cumsum(1)
        shares = torch.randint(1, 12, (4,), generator=g)
        weight = torch.randint(1, 5, (4,), generator=g)
        c, kept = fit_threshold(values, counts, shares, weight)
        m = (values.nan_to_num(-9.0) > c).sum(1)
        assert kept.tolist() == [int(counts[i, m[i]]) for i in range(4)]
        errors = []
        pool = sorted(v for v in values.flatten().tolist() if not math.isnan(v))
        for bar in [pool[0] - 1, *[(a + b) / 2 for a, b in itertools.pairwise(pool)], pool[-1] + 1]:
            total = sum(int(weight[i]) * int(counts[i, int((values[i] > bar).sum())]) for i in range(4))
            errors.append(abs(total - int((weight * shares).sum())))
        assert abs(int((weight * kept).sum()) - int((weight * shares).sum())) == min(errors)


def test_all_heads_as_one() -> None:
    g = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 2, 3, 7, 4, generator=g).unbind(0)
    probe = Probe(mode="rows", rows=torch.zeros(2, 1, dtype=torch.long), want_keys=True, single_head=True)
    probe.read(query, key, None, 0.5, False, 1)
    assert probe.attention is not None and probe.keys is not None and probe.attention.shape == (2, 1, 1, 7)
    for b in range(2):
        full = [torch.cat([key[b, h, i] for h in range(3)]).double() for i in range(7)]
        asked = torch.cat([query[b, h, 0] for h in range(3)]).double()
        logits = torch.stack([asked @ k for k in full]) / math.sqrt(12)
        assert torch.allclose(probe.attention[b, 0, 0].double(), logits.softmax(0), atol=1e-6)
        assert torch.allclose(probe.keys[b].double(), torch.stack(full), atol=1e-6)
