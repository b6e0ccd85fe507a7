"""METEOR's arithmetic against plain loops in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.core.pruner import Layout, View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.methods.meteor.method import Meteor
from meteor_bench.methods.meteor.stages import effective_rank, redundancy, stage1_total
from tests.methods.views import ragged, view, visual_indices

GRIDS = {"a": Grid(1, 8, 8), "b": Grid(1, 8, 8), "c": Grid(1, 4, 4)}
LAYOUT = Layout("independent", GRIDS, {"a": 4, "b": 0, "c": 3})
RANKS = [{"a": 9.0, "b": 20.0, "c": 6.0}, {"a": 11.0, "b": 20.0, "c": 7.0}, {"a": 13.0, "b": 20.0, "c": 5.0}]
FACTS = {"meteor.ranks": RANKS}


def cosine(u: Tensor, v: Tensor) -> float:
    return float(u.double() @ v.double() / (u.double().norm() * v.double().norm()))


def tower_views(point: int, keep: float, counts: dict[str, list[int]], facts: dict[str, object]) -> dict[str, View]:
    """Views of an encode point of the 64 + 64 + 16 tower model whose reference is 64."""
    layers = {"a": (1, 3, 4), "b": (0, 0, 0), "c": (1, 2, 3)}
    out = {}
    for seed, (name, grid) in enumerate(GRIDS.items()):
        tokens = ragged(counts[name], grid, seed=seed, cls=name == "a")
        rows = len(counts[name])
        out[name] = replace(
            view(tokens, TokenBudget(keep).tokens(64), tower=name, seed=seed, layout=LAYOUT, facts=facts),
            reference=torch.full((rows,), 64),
            keep=keep,
            layers=layers[name],
            layer=layers[name][point],
            point=point,
            attention=torch.rand(tokens.x.shape[:2]) if point == 2 and name != "b" else None,
        )
    return out


def test_redundancy_is_the_double_sum() -> None:
    parts = {name: ragged([n, n - 2, 3], Grid(1, 4, 4), seed=s) for s, (name, n) in enumerate([("a", 9), ("b", 16)])}
    parts["c"] = ragged([4, 1, 3], Grid(1, 2, 2), seed=5)
    got = redundancy({n: t.x for n, t in parts.items()}, {n: t.visual for n, t in parts.items()})
    for name, tokens in parts.items():
        for b in range(3):
            for i in visual_indices(tokens, b):
                want = sum(
                    cosine(tokens.x[b, i], other.x[b, m])
                    for o, other in parts.items()
                    if o != name
                    for m in visual_indices(other, b)
                )
                assert abs(float(got[name][b, i]) - want) < 1e-4


def test_stage2_keeps_the_lowest_by_brute_force() -> None:
    method = Meteor(stages=("fuse",))
    tokens = {n: ragged([g.n, g.n - 3], g, seed=s) for s, (n, g) in enumerate(GRIDS.items())}
    views = {n: view(t, [20, 31], tower=n, layout=LAYOUT, kind="fuse") for n, t in tokens.items()}
    decisions = method.fuse(views)
    r = redundancy({n: t.x for n, t in tokens.items()}, {n: t.visual for n, t in tokens.items()})
    for b, k in enumerate([20, 31]):
        pool = [(float(r[n][b, i]), n, i) for n, t in tokens.items() for i in visual_indices(t, b)]
        want = {(n, i) for _, n, i in sorted(pool)[:k]}
        got = {(n, int(i)) for n, d in decisions.items() for i in d.keep[b].nonzero()[:, 0]}
        assert got == want


def test_stage2_count_follows_the_schedule_when_stage3_comes() -> None:
    tokens = {n: ragged([grid.n] * 2, grid, seed=i) for i, (n, grid) in enumerate(GRIDS.items())}
    views = {
        n: view(t, 16, tower=n, layout=LAYOUT, kind="fuse", keep=0.25, reference=torch.full((2,), 64))
        for n, t in tokens.items()
    }
    kept = {s: sum(int(d.keep[0].sum()) for d in Meteor(stages=s).fuse(views).values()) for s in [("fuse",)]}
    assert kept[("fuse",)] == 16
    both = Meteor(stages=("fuse", "decode")).fuse(views)
    assert sum(int(d.keep[1].sum()) for d in both.values()) == round(64 * 0.25**0.4)


@pytest.mark.parametrize("fusion", ["independent", "random"])
@pytest.mark.parametrize("allocation", ["global", "tower"])
def test_stage2_ablations_are_exact(fusion: str, allocation: str) -> None:
    tokens = {n: ragged([g.n, g.n - 3], g, seed=s) for s, (n, g) in enumerate(GRIDS.items())}
    views = {n: view(t, [20, 31], tower=n, layout=LAYOUT, kind="fuse") for n, t in tokens.items()}
    method = Meteor(stages=("fuse",), fusion=fusion, allocation=allocation)  # type: ignore[arg-type]
    decisions = method.fuse(views)
    assert sum(d.keep.sum(1) for d in decisions.values()).tolist() == [20, 31]  # type: ignore[union-attr]


def test_stage2_on_a_shared_fusion_scores_positions_by_partials() -> None:
    grid = Grid(1, 4, 4)
    tokens = Tokens.dense(torch.randn(2, 16, 6), grid)
    partials = {n: torch.randn(2, 16, 10) for n in "ab"}
    seen = view(tokens, [5, 5], tower="fused", partials=partials)
    keep = Meteor(stages=("fuse",)).fuse({"fused": seen})["fused"].keep
    for b in range(2):
        score = []
        for i in range(16):
            r = sum(
                cosine(partials[one][b, i], partials[other][b, m]) for one, other in ("ab", "ba") for m in range(16)
            )
            score.append((r, i))
        assert {i for _, i in sorted(score)[:5]} == {int(i) for i in keep[b].nonzero()[:, 0]}


def test_stage1_totals_hit_the_papers_number_and_both_ends() -> None:
    n, nothing = torch.tensor([1024]), torch.tensor([0])
    assert float(stage1_total(4096, n, 0.236, nothing)) == pytest.approx(1193)
    assert float(stage1_total(2304, n, 0.236, nothing)) == pytest.approx(1193)
    assert float(stage1_total(2304, n, 1.0, nothing)) == pytest.approx(2304)
    assert float(stage1_total(1024, n, 0.236, nothing)) == pytest.approx(1024 * 0.236**0.2)
    assert float(stage1_total(4096, n, 0.01, torch.tensor([162]))) == 162


@pytest.mark.parametrize("point", [0, 1, 2])
@pytest.mark.parametrize("keep", [1.0, 0.5, 0.236, 0.111])
def test_stage1_budgets_sum_exactly_and_follow_the_ranks(point: int, keep: float) -> None:
    counts = {"a": [64, 64, 50], "b": [64] * 3, "c": [16, 16, 12]}
    views = tower_views(point, keep, counts, FACTS)
    decisions = Meteor().encode(views)
    assert set(decisions) == ({"a", "b", "c"} if point == 2 else {"a", "c"})  # b is opaque: at its output only
    n2 = math.ceil(64 * keep**0.4)
    power = math.log(144 / (1193 / 1024 * 64)) / math.log(1 / 0.236)
    end = max(144 * keep**power, n2)
    total = int(144 ** (1 - (point + 1) / 3) * end ** ((point + 1) / 3) + 0.5)
    for row in range(3):
        caps = {n: c[row] for n, c in counts.items()}
        want = TokenBudget.split(min(total, sum(caps.values())), RANKS[point], caps)
        assert sum(want.values()) == min(total, sum(caps.values()))
        for name, decision in decisions.items():
            assert int(decision.keep[row].sum()) == want[name]


def test_stage1_alone_meets_the_budget() -> None:
    views = tower_views(2, 0.25, {"a": [40], "b": [64], "c": [9]}, FACTS)
    decisions = Meteor(stages=("encode",)).encode(views)
    assert sum(int(d.keep.sum()) for d in decisions.values()) == 16


def test_stage1_criteria() -> None:
    counts = {"a": [64, 60], "b": [64, 64], "c": [16, 11]}
    for point in (0, 2):
        views = tower_views(point, 0.236, counts, FACTS)
        for name, decision in Meteor().encode(views).items():
            tokens = views[name].tokens
            for row in range(2):
                at = visual_indices(tokens, row)
                if views[name].attention is None:  # shallow, or opaque: least like the mean token
                    mean = torch.stack([tokens.x[row, i].double() for i in at]).mean(0)
                    score = {i: -cosine(tokens.x[row, i], mean) for i in at}
                else:  # deep: attention
                    score = {i: float(views[name].attention[row, i]) for i in at}  # type: ignore[index]
                k = int(decision.keep[row].sum())
                assert {int(i) for i in decision.keep[row].nonzero()[:, 0]} == set(
                    sorted(at, key=lambda i, s=score: -s[i])[:k]  # type: ignore[misc]
                )


def test_uniform_budgets_follow_the_token_counts() -> None:
    views = tower_views(2, 0.236, {"a": [64], "b": [64], "c": [16]}, {})
    kept = {n: int(d.keep.sum()) for n, d in Meteor(budgets="uniform").encode(views).items()}
    assert kept["a"] == pytest.approx(kept["b"], abs=1) and kept["c"] == pytest.approx(kept["a"] / 4, abs=1)


def test_missing_facts_are_named() -> None:
    views = tower_views(0, 0.236, {"a": [64], "b": [64], "c": [16]}, {})
    with pytest.raises(ConfigError, match="budgets=uniform"):
        Meteor().encode(views)
    llm = view(views["a"].tokens, 5, attention=torch.rand(1, 2, 3, 65))
    with pytest.raises(ConfigError, match="stage3=fixed"):
        Meteor().decode(llm)


@pytest.mark.parametrize("kind", ["energy", "entropy"])
def test_ranks(kind: str) -> None:
    tokens = ragged([30, 64, 10], Grid(1, 8, 8), dim=12, cls=True)
    got = effective_rank(tokens.x, tokens.visual, kind)
    for b in range(3):
        s = torch.linalg.svdvals(tokens.x[b, visual_indices(tokens, b)].double())
        if kind == "entropy":
            p = s / s.sum()
            want = math.exp(-sum(float(q) * math.log(float(q)) for q in p))
            assert float(got[b]) == pytest.approx(want, rel=1e-4)
        else:
            energy = [float((s[: k + 1] ** 2).sum() / (s**2).sum()) for k in range(len(s))]
            assert float(got[b]) == 1 + next(k for k, e in enumerate(energy) if e >= 0.99)


def test_rank_of_an_exactly_low_rank_map_does_not_saturate() -> None:
    x = torch.randn(1, 40, 3) @ torch.randn(1, 3, 20)
    assert effective_rank(x, torch.ones(1, 40, dtype=torch.bool), energy=0.999999).item() == 3


def stage3_views(targets: list[int], seed: int = 0) -> View:
    """Two heads of four look at the image, two do not; padded text rows are zero."""
    tokens = ragged([40, 64, 31], Grid(1, 8, 8), seed=seed)
    rows = len(targets)
    g = torch.Generator().manual_seed(seed)
    attention = torch.rand(rows, 4, 5, tokens.x.shape[1], generator=g) / 64
    attention[:, 1] *= 0.1
    attention[:, 3] *= 0.2
    attention[1, :, 3:] = 0
    return view(tokens, targets, tower="llm", attention=attention)


def reference_stage3(seen: View, row: int, heads: int) -> tuple[dict[int, float], float]:
    assert seen.attention is not None
    at = visual_indices(seen.tokens, row)
    a = seen.attention[row].double()
    real = [r for r in range(a.shape[1]) if float(a[:, r].sum()) > 0]
    mean = {h: {i: sum(float(a[h, r, i]) for r in real) / len(real) for i in at} for h in range(a.shape[0])}
    value = {h: sum(mean[h].values()) for h in mean}
    chosen = sorted(value, key=lambda h: -value[h])[:heads]
    score = {i: sum(mean[h][i] for h in chosen) for i in at}
    return score, sum(score.values())


@pytest.mark.parametrize(("heads", "count"), [("topk", 2), ("all", 4)])
def test_stage3_fixed(heads: str, count: int) -> None:
    seen = stage3_views([7, 12, 9])
    keep = Meteor(stage3="fixed", heads=heads).decode(seen).keep  # type: ignore[arg-type]
    for row, k in enumerate([7, 12, 9]):
        score, _ = reference_stage3(seen, row, count)
        assert {int(i) for i in keep[row].nonzero()[:, 0]} == set(sorted(score, key=lambda i: -score[i])[:k])


def test_stage3_adaptive_counts() -> None:
    seen = stage3_views([8, 8, 8]).changed(facts={"meteor.lambda": 12.0})
    keep = Meteor().decode(seen).keep
    for row in range(3):
        score, mass = reference_stage3(seen, row, 2)
        k = min(max(int(12 * mass + 0.5), 2), 32, len(score))
        assert {int(i) for i in keep[row].nonzero()[:, 0]} == set(sorted(score, key=lambda i: -score[i])[:k])


def model(kind: str, depths: dict[str, int], layers: int = 5) -> SimpleNamespace:
    return SimpleNamespace(
        name="m",
        fusion=SimpleNamespace(kind=kind),
        towers={n: SimpleNamespace(depth=d) for n, d in depths.items()},
        decoder=SimpleNamespace(depth=layers),
    )


def test_points() -> None:
    budget = TokenBudget(0.24)
    points = Meteor().points(model("independent", {"a": 4, "b": 0, "c": 3}), budget)  # type: ignore[arg-type]
    assert [dict(p.after) for p in points.encode] == [
        {"a": 1, "b": 0, "c": 1},
        {"a": 3, "b": 0, "c": 2},
        {"a": 4, "b": 0, "c": 3},
    ]
    assert [p.attention for p in points.encode] == [None, None, "cls"]
    shared = Meteor().points(model("shared", {"a": 24, "b": 0}), budget)  # type: ignore[arg-type]
    assert [dict(p.after) for p in shared.encode] == [{"a": 8}, {"a": 16}]
    assert shared.fuse is not None and shared.fuse.partial
    assert [(p.before, p.attention) for p in shared.decode] == [(3, "text")]
    deep = model("shared", {"a": 24, "b": 0}, layers=32)
    assert [p.before for p in Meteor().points(deep, budget).decode] == [19]  # type: ignore[arg-type]
    assert [p.before for p in Meteor(layer=2).points(deep, budget).decode] == [2]  # type: ignore[arg-type]


def test_what_does_not_fit_is_said() -> None:
    budget = TokenBudget(0.24)
    with pytest.raises(UnsupportedError, match="'m' has one"):
        Meteor().points(model("independent", {"a": 4}), budget)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="share one grid"):
        Meteor(stages=("encode",)).points(model("shared", {"a": 4, "c": 3}), budget)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="2 layers"):
        Meteor(layer=2).points(model("shared", {"a": 4, "c": 3}, layers=2), budget)  # type: ignore[arg-type]


def test_what_yaml_gives_is_taken() -> None:
    method = make_pruner("meteor", {"stages": ["decode", "encode"], "clamp": [0.5, 2]})
    assert (method.parameters()["stages"], method.parameters()["clamp"]) == (("encode", "decode"), (0.5, 2))


def test_the_schedule_is_the_papers_flow_at_the_papers_budget() -> None:
    """1024 tokens: 576 after stage 2 and 242 after stage 3."""
    seen = view(ragged([4], Grid(1, 2, 2)), 242, kind="fuse").changed(reference=torch.tensor([1024]), keep=242 / 1024)
    assert abs(int(Meteor()._stage2_count(seen)) - 576) <= 2
