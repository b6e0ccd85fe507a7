"""MustDrop against plain loops in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError, ConfigError, UnsupportedError
from meteor_bench.core.pruner import Layout, View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.mustdrop import MustDrop
from tests.methods.views import clustered, ragged, view, visual_indices

GRID = Grid(1, 7, 8)  # not divisible by 3
ALONE = Layout("independent", {"t": GRID}, {"t": 4})


def smooth(rows: int, seed: int, cls: bool) -> Tokens:
    """Full grids whose neighbours are alike."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(rows, 8, 3, 3, generator=g)
    x = torch.nn.functional.interpolate(coarse, size=(7, 8), mode="bilinear").flatten(2).transpose(1, 2)
    x = x + 0.2 * torch.randn(rows, 56, 8, generator=g)
    head = torch.randn(rows, int(cls), 8, generator=g)
    return Tokens.dense(torch.cat([head, x], 1), GRID, specials=int(cls))


def reference_windows(x: Tensor, similar: float, least: float) -> list[list[int]]:
    """Cells of the merged windows of one image [56, D]."""
    cells: dict[tuple[int, int], list[int]] = {}
    for i in range(56):
        cells.setdefault((i // 8 // 3, i % 8 // 3), []).append(i)
    v = [row / row.norm() for row in x.double()]
    found = []
    for members in cells.values():
        pairs = [float(v[i] @ v[j]) for i in members for j in members if i < j]
        if pairs and sum(pairs) / len(pairs) >= similar:
            found.append((sum(pairs) / len(pairs), members))
    left, merged = 56, []
    for _, members in sorted(found, reverse=True):
        if left - (len(members) - 1) < least:
            break
        left -= len(members) - 1
        merged.append(members)
    return merged


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("keep", [1.0, 0.5, 0.1])
def test_windows(keep: float, cls: bool) -> None:
    tokens = smooth(3, 1, cls)
    method = MustDrop(similar=0.6)
    v = view(tokens, 5, layout=ALONE, layers=(1, 4)).changed(keep=keep)
    out = apply(tokens, method.encode({"t": v})["t"])
    sizes = set()
    for b in range(3):
        x = tokens.x[b, int(cls) :]
        merged = reference_windows(x, 0.6, math.ceil(56 * keep**0.2))
        gone = {i for members in merged for i in members[1:]}
        want = {members[0]: x[members].double().mean(0) for members in merged}
        left = [i for i in range(56) if i not in gone]
        assert out.origin[b][out.visual[b]].tolist() == left
        for i, row in zip(left, out.x[b][out.visual[b]], strict=True):
            assert torch.allclose(row.double(), want.get(i, x[i].double()), atol=1e-5)
        sizes.add(len(left))
    assert (sizes == {56}) == (keep == 1.0)


@pytest.mark.parametrize("cls", [False, True])
def test_key_tokens(cls: bool) -> None:
    tokens = ragged([56, 40, 13], GRID, cls=cls)
    for target, limit in [(40, 30), (4, 3), (1, 0)]:
        v = view(tokens, target, layout=ALONE, layers=(1, 4)).changed(point=1)
        decision = MustDrop(key_share=0.2).encode({"t": v})["t"]
        cells = decision.memo["mustdrop.keys.t"]
        for b in range(3):
            at = visual_indices(tokens, b)
            ranked = sorted(at, key=lambda i: -float(v.attention[b, i]))  # type: ignore[index]
            want = ranked[: min(math.ceil(0.2 * len(at)), limit)]
            assert {int(c) for c in cells[b].nonzero()[:, 0]} == {int(tokens.origin[b, i]) for i in want}


def inner(counts: list[int], seed: int, target: int = 14, point: int = 0, scale: float | None = None) -> View:
    """A decode view of two encoders' tokens, the second without keys."""
    grids = {"a": Grid(2, 4, 4), "b": Grid(2, 3, 4)}
    tokens = ragged(counts, Grid(1, 1, 56), seed=seed)
    g = torch.Generator().manual_seed(seed)
    rows, n = tokens.x.shape[:2]
    valid = torch.arange(5) < torch.tensor([5, 2, 3][:rows])[:, None]
    attention = torch.rand(rows, 3, 5, n, generator=g) ** 4 * 0.02  # rubbish on padding
    return view(
        tokens,
        target,
        tower="llm",
        attention=attention,
        text_valid=valid,
        memo={"mustdrop.keys.a": torch.rand(rows, 2, 16, generator=g) < 0.1},
        layout=Layout("independent", grids, {"a": 4, "b": 0}),
        layers=(3, 7),
        point=point,
        facts={} if scale is None else {f"mustdrop.scale.{point}": scale},
    )


def reference_kept(method: MustDrop, v: View, b: int, scale: float) -> set[int]:
    at = visual_indices(v.tokens, b)
    a = v.attention[b].double().mean(0)  # type: ignore[index]
    words = [t for t in range(a.shape[0]) if v.text_valid[b, t]]  # type: ignore[index]
    everything = sum(float(a[t, i]) for t in words for i in at)
    keys = {int(c) for c in v.memo["mustdrop.keys.a"][b].flatten().nonzero()[:, 0]}
    kept = set()
    for i in at:
        low = sum(float(a[t, i]) for t in words) < scale * method.total * everything
        unseen = max(float(a[t, i]) for t in words) < scale * method.single
        if int(v.tokens.origin[b, i]) in keys or not (low and unseen):
            kept.add(i)
    return kept


@pytest.mark.parametrize("method", [MustDrop(), MustDrop(total=0.011, single=0.01)], ids=str)
@pytest.mark.parametrize("counts", [[56, 56, 56], [56, 30, 2]])
def test_dropping_inside_the_language_model(counts: list[int], method: MustDrop) -> None:
    for seed, scale in [(0, 0.5), (1, 3.0), (2, 12.0), (3, 40.0)]:
        v = inner(counts, seed, scale=scale)
        keep = method.decode(v).keep
        for b in range(3):
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == reference_kept(method, v, b, scale)


def test_key_tokens_always_stay_and_the_mean_meets_the_budget() -> None:
    """The paper's protection, and the calibration: any factor keeps the keys, the fitted one the budget."""
    method = MustDrop()
    for point, wanted in ((0, 28.0), (1, 14.0)):
        v = inner([56, 56, 50], 5, point=point)
        facts = method.fit("decode", method.observe_decode(v))
        counts = method.decode(v.changed(facts=facts)).keep.sum(1)
        assert float(counts.double().mean()) == pytest.approx(wanted, abs=0.5)
        assert ("mustdrop.calibrated" in facts) == (point == 1)
    none = method.decode(inner([56, 56, 56], 5, scale=1e9))
    keys = v.memo["mustdrop.keys.a"].flatten(1).sum(1)
    assert keys.tolist() == [4, 0, 4] and none.keep.sum(1).tolist() == [4, 1, 4]  # and one where there is no key
    crowded = inner([56, 56, 56], 5, target=2, point=1).changed(memo={"mustdrop.keys.a": torch.ones(3, 2, 16) > 0})
    with pytest.raises(BudgetError, match=r"mustdrop keeps .* key tokens"):
        method.fit("decode", method.observe_decode(crowded))
    with pytest.raises(ConfigError, match=r"mustdrop.*calibrate first"):
        method.decode(inner([56, 56, 56], 5))


def test_keys_on_a_shared_grid_are_any_encoders() -> None:
    grids = {"a": Grid(1, 4, 4), "c": Grid(1, 2, 2)}
    tokens = Tokens.dense(clustered(1, 16, 4, 0), Grid(1, 4, 4))
    memo = {f"mustdrop.keys.{n}": torch.zeros(1, 1, g.n, dtype=torch.bool) for n, g in grids.items()}
    memo["mustdrop.keys.a"][0, 0, 3] = memo["mustdrop.keys.c"][0, 0, 2] = True
    v = view(
        tokens,
        8,
        attention=torch.zeros(1, 2, 1, 16),
        text_valid=torch.ones(1, 1, dtype=torch.bool),
        memo=memo,
        layout=Layout("shared", grids, {"a": 4, "c": 3}),
        facts={"mustdrop.scale.0": 1.0},
    )
    assert MustDrop().decode(v).keep[0].nonzero()[:, 0].tolist() == [3, 8, 9, 12, 13]


@pytest.mark.parametrize("counts", [[56, 56, 56], [56, 30, 1]])
def test_the_token_that_would_be_dropped_last_survives(counts: list[int]) -> None:
    method = MustDrop()
    v = inner(counts, 3, scale=1e12).changed(memo={"mustdrop.keys.a": torch.zeros(3, 2, 16, dtype=torch.bool)})
    keep = method.decode(v).keep
    for b in range(3):
        at = visual_indices(v.tokens, b)
        a = v.attention[b].double().mean(0)[v.text_valid[b]]  # type: ignore[index]
        spared = {i: max(float(a[:, i].sum() / a[:, at].sum()) / 0.001, float(a[:, i].max()) / 0.001) for i in at}
        assert keep[b].nonzero()[:, 0].tolist() == [max(at, key=lambda i: spared[i])]


def test_a_budget_of_one_token_is_met_without_keys() -> None:
    method = MustDrop()
    for point in (0, 1):
        v = inner([56, 56, 56], 4, target=1, point=point).changed(memo={})
        facts = method.fit("decode", method.observe_decode(v))
        counts = method.decode(v.changed(facts=facts)).keep.sum(1)
        assert counts.min() >= 1
        assert float(counts.double().mean()) == pytest.approx([math.sqrt(56), 1][point], abs=0.5)


@pytest.mark.parametrize(("wanted", "kept"), [(1, 1), (4, 3), (12, 15), (16, 16), (17, 16), (50, 56)])
def test_equal_factors_are_kept_or_dropped_together(wanted: int, kept: int) -> None:
    """56 tokens with the factors 3, 2, 2, 1 (12 of them), 1/2, 0 (40): the nearest count that a threshold can give."""
    paid = torch.zeros(1, 1, 1, 56)
    paid[0, 0, 0, :16] = torch.tensor([3.0, 2.0, 2.0, *[1.0] * 12, 0.5])
    v = inner([56], 0, target=wanted, point=1).changed(attention=paid, text_valid=torch.ones(1, 1) > 0, memo={})
    method = MustDrop()
    facts = method.fit("decode", method.observe_decode(v))
    assert int(method.decode(v.changed(facts=facts)).keep.sum()) == kept
    assert facts["mustdrop.calibrated"]["mean"] == kept


def test_points() -> None:
    def model(llm: int, **depths: int) -> SimpleNamespace:
        towers = {n: SimpleNamespace(depth=d) for n, d in depths.items()}
        return SimpleNamespace(name="m", towers=towers, decoder=SimpleNamespace(depth=llm))

    points = MustDrop().points(model(32, a=24, b=0), TokenBudget(0.5))  # type: ignore[arg-type]
    assert [dict(p.after) for p in points.encode] == [{"a": 1}, {"a": 24}]
    assert [p.before for p in points.decode] == [3, 7, 11, 15]
    shallow = MustDrop().points(model(5, a=4), TokenBudget(0.5))  # type: ignore[arg-type]
    assert [p.before for p in shallow.decode] == [1, 2]
    with pytest.raises(UnsupportedError, match=r"mustdrop.*'m' has none"):
        MustDrop().points(model(5, b=0), TokenBudget(0.5))  # type: ignore[arg-type]
