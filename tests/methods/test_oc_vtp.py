"""OC-VTP's slots against loops in float64; what its trained weights are worth; what happens without any."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ModelError, UnsupportedError
from meteor_bench.core.pick import rows_of
from meteor_bench.core.pruner import Layout, View
from meteor_bench.core.tokens import Grid
from meteor_bench.engine.engine import seeded
from meteor_bench.engine.factory import build
from meteor_bench.methods.oc_vtp import OCVTP, BoundOCVTP, taken
from meteor_bench.methods.shared.slots import SlotPruner, SlotTower, feature_block, load_slots, read_towers
from meteor_bench.models.checkpoint import digest
from meteor_bench.models.pocket.model import WEIGHTS
from scripts.oc_vtp.pictures import features, pocket_pictures
from tests import tiny
from tests.methods.views import clustered, ragged, view, visual_indices

SHIPPED = ("pocket",)
DIM = 8
TOWERS = (SlotTower("t", DIM, 2),)
METHOD = BoundOCVTP(towers=TOWERS, digest="random")

Rows = list[list[float]]


def dot(u: list[float], v: list[float]) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


def linear(x: list[float], weight: Tensor, bias: Tensor | None = None) -> list[float]:
    offset = [0.0] * len(weight) if bias is None else bias.double().tolist()
    return [dot(row, x) + b for row, b in zip(weight.double().tolist(), offset, strict=True)]


def normed(x: list[float], weight: Tensor, bias: Tensor) -> list[float]:
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-5)
    scale, shift = weight.double().tolist(), bias.double().tolist()
    return [(v - mean) / deviation * s + t for v, s, t in zip(x, scale, shift, strict=True)]


def bent(x: list[float]) -> list[float]:
    return [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x]


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def gated(w: dict[str, Tensor], update: list[float], slot: list[float]) -> list[float]:
    """A GRU cell."""
    a = linear(update, w["gru.weight_ih"], w["gru.bias_ih"])
    b = linear(slot, w["gru.weight_hh"], w["gru.bias_hh"])
    s = len(slot)
    out = []
    for i in range(s):
        reset, keep = sigmoid(a[i] + b[i]), sigmoid(a[s + i] + b[s + i])
        new = math.tanh(a[2 * s + i] + reset * b[2 * s + i])
        out.append((1 - keep) * new + keep * slot[i])
    return out


def reference(w: dict[str, Tensor], x: Rows, noise: Rows, attention: list[float]) -> set[int]:
    """Places that stay: what the slots take, then the most attended."""
    tokens = []
    for row in x:
        wide = bent(linear(normed(row, w["norm.weight"], w["norm.bias"]), w["widen.weight"], w["widen.bias"]))
        tokens.append(
            normed(linear(wide, w["narrow.weight"], w["narrow.bias"]), w["norm_in.weight"], w["norm_in.bias"])
        )
    keys, values = ([linear(t, w[f"{kind}.weight"]) for t in tokens] for kind in ("key", "value"))
    mean, std = w["mean"].double()[0].tolist(), w["log_std"].double().exp()[0].tolist()
    slots = [[m + z * d for m, z, d in zip(mean, row, std, strict=True)] for row in noise]
    seen: Rows = []
    for _ in range(3):
        queries = [linear(normed(s, w["norm_slots.weight"], w["norm_slots.bias"]), w["query.weight"]) for s in slots]
        seen = [[0.0] * len(x) for _ in slots]
        for n, key in enumerate(keys):
            logits = [dot(q, key) / math.sqrt(len(key)) for q in queries]
            total = sum(math.exp(v) for v in logits)
            for k, v in enumerate(logits):
                seen[k][n] = math.exp(v) / total
        moved = []
        for slot, row in zip(slots, seen, strict=True):
            mass = sum(row) + 1e-5
            update = [sum(a / mass * v[i] for a, v in zip(row, values, strict=True)) for i in range(len(slot))]
            state = gated(w, update, slot)
            hidden = bent(linear(normed(state, w["norm_mlp.weight"], w["norm_mlp.bias"]), w["up.weight"], w["up.bias"]))
            moved.append([a + b for a, b in zip(state, linear(hidden, w["down.weight"], w["down.bias"]), strict=True)])
        slots = moved
    kept = {max(range(len(x)), key=lambda n: (row[n], -n)) for row in seen}
    for n in sorted(range(len(x)), key=lambda n: (-attention[n], n)):
        if len(kept) < len(noise):
            kept.add(n)
    return kept


def decide(method: BoundOCVTP, inner: View, end: View) -> Tensor:
    """[R, N] what stays after both points of one tower."""
    left = method.encode({inner.tower: inner})[inner.tower]
    assert torch.equal(left.keep, inner.tokens.visual)
    after = end.changed(point=1, memo=left.memo)
    return method.encode({inner.tower: after})[inner.tower].keep


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("side", [3, 5])
def test_slots_take_tokens_and_attention_fills_up(side: int, cls: bool) -> None:
    pruner = load_slots("", "random", TOWERS, "cpu")["t"]
    weights = dict(pruner.state_dict())
    counts = [side * side, side * side - 2, 4]
    filled = 0
    for seed in range(3):
        tokens = ragged(counts, Grid(1, side, side), dim=DIM, seed=seed, cls=cls)
        target = [5, 3, 2]
        inner, end = view(tokens, target, seed=seed), view(tokens, target, seed=seed + 50)
        keep = decide(METHOD, inner, end)
        for b, k in enumerate(target):
            at = visual_indices(tokens, b)
            noise = torch.randn(k, DIM // 2, generator=torch.Generator().manual_seed(100 * seed + b)).double().tolist()
            assert end.attention is not None
            seen = end.attention[b, at].double().tolist()
            want = reference(weights, tokens.x[b, at].double().tolist(), noise, seen)
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in want}
            filled += len(want) > len(reference(weights, tokens.x[b, at].double().tolist(), noise[:1], seen))
    assert filled > 0


@pytest.mark.parametrize("target", [0, 1, 7, 16])
def test_exact_counts_and_rows_that_do_not_depend_on_each_other(target: int) -> None:
    tokens = ragged([16, 9, 12], Grid(1, 4, 4), dim=DIM, cls=True)
    inner = view(tokens, [target, max(target - 1, 0), target])
    keep = decide(METHOD, inner, inner)
    assert keep.sum(1).tolist() == [min(k, n) for k, n in zip(inner.target.tolist(), (16, 9, 12), strict=True)]
    for b in range(3):
        alone = rows_of(tokens, torch.tensor([b]))
        assert inner.attention is not None
        one = view(alone, [int(inner.target[b])], attention=inner.attention[b : b + 1])
        one = one.changed(generators=(torch.Generator().manual_seed(b),))
        assert torch.equal(decide(METHOD, one, one)[0], keep[b])


def test_the_seed_decides_and_nothing_else_does() -> None:
    pruner = load_slots("", "random", TOWERS, "cpu")["t"]
    x, every = clustered(2, 25, DIM, 3), torch.ones(2, 25, dtype=torch.bool)

    def picks(seed: int) -> Tensor:
        torch.manual_seed(seed + 77)  # the global generator has no say
        return taken(pruner, x, every, torch.tensor([6, 6]), [seeded(seed, f"{row}", "x") for row in range(2)])

    assert torch.equal(picks(0), picks(0))
    assert not torch.equal(picks(0), picks(1))
    assert (picks(0).sum(1) <= 6).all() and (picks(0).sum(1) >= 1).all()


def test_several_encoders_on_one_grid_propose_each_with_its_own_slots() -> None:
    towers = (SlotTower("a", DIM, 1), SlotTower("b", DIM, 0))
    method = BoundOCVTP(towers=towers, digest="random")
    grids = {"a": Grid(1, 4, 4), "b": Grid(1, 2, 2)}
    layout = Layout("shared", grids, {"a": 3, "b": 0})
    views = {n: view(ragged([g.n], g, dim=DIM, seed=1), 6, tower=n, layout=layout) for n, g in grids.items()}
    memo = {k: v for d in method.encode(views).values() for k, v in d.memo.items()}
    assert memo["oc-vtp.a"].sum() <= 6 and not memo["oc-vtp.b"].any()  # 4 tokens, 6 slots: nothing to choose
    ends = {n: v.changed(point=1, memo=memo) for n, v in views.items()}
    decisions = method.encode(ends)
    score = {n: decisions[n].score for n in grids}
    assert all(bool(d.keep.all()) for d in decisions.values())  # chosen where they meet
    assert score["a"] is not None and torch.equal(score["a"] >= 1, memo["oc-vtp.a"])


# ---------------------------------------------------------------- the shipped weights


@pytest.mark.parametrize("model", SHIPPED)
def test_shipped_weights_belong_to_the_shipped_model(model: str) -> None:
    folder = WEIGHTS / model / "oc-vtp"
    about = json.loads((folder / "config.json").read_text())
    assert about["checkpoint"] == digest(WEIGHTS / model)
    assert (folder / "model.safetensors").stat().st_size < 1_000_000
    assert [(t.name, t.after) for t in read_towers(folder)] == [("a", 2), ("b", 0), ("c", 1)]
    assert "calibration split" in (folder / "README.md").read_text()


def test_records_say_whose_weights_they_were() -> None:
    session = build("pocket", "oc-vtp", ratio=0.5)
    folder = WEIGHTS / "pocket" / "oc-vtp"
    assert session.provenance["parameters"] == {
        "average": "all",
        "block": -1,
        "weights": "",
        "digest": digest(folder),
    }


@pytest.mark.parametrize("model", SHIPPED)
@torch.inference_mode()
def test_trained_slots_let_features_be_told_better_than_untrained_ones(model: str) -> None:
    """The paper's aim: little is lost when features are put together from the slots, by attention."""
    folder = WEIGHTS / model / "oc-vtp"
    towers = read_towers(folder)
    trained, untrained = load_slots(str(folder), "shipped", towers, "cpu"), load_slots("", "random", towers, "cpu")
    samples = pocket_pictures(1, "calib")(0, 6)
    for name, (x, _) in features(build(model, "none").vlm, samples, {t.name: t.after for t in towers}).items():
        rows, n, _ = x.shape
        spread = float((x - x.mean(1, keepdim=True)).square().sum())
        for slots in (n // 2, n // 4, n // 8):
            noise = torch.randn(rows, slots, x.shape[2] // 2, generator=torch.Generator().manual_seed(slots))
            left = []
            for pruner in (trained[name], untrained[name]):
                every = torch.ones(rows, n, dtype=torch.bool)
                attention = pruner(x, every, noise, every[:, :slots]).attention  # [R, K, N]
                means = torch.einsum("rkn,rnd->rkd", attention, x) / attention.sum(-1, keepdim=True)
                left.append(float((x - torch.einsum("rkn,rkd->rnd", attention, means)).square().sum()) / spread)
            assert left[0] < left[1] - 0.02


# ---------------------------------------------------------------- without weights, or with wrong ones


@pytest.mark.parametrize("name", tiny.MODELS)
def test_a_model_without_a_pruner_is_told_what_is_missing(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"oc-vtp needs a pruner .*'{tiny.build(name).name}'.*train_oc_vtp"):
        OCVTP().points(tiny.build(name), TokenBudget(0.5))


def test_a_pruner_of_another_model_is_refused(tmp_path: Path) -> None:
    vlm = tiny.build("shared")
    about = {"towers": {"a": {"dim": 128, "after": 2}}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    torch_file = tmp_path / "model.safetensors"
    from safetensors.torch import save_file

    save_file(SlotPruner(8).state_dict(), torch_file)
    with pytest.raises(UnsupportedError, match="was not trained for 'shared': its tower 'a' is 128 wide"):
        OCVTP(weights=str(tmp_path)).points(vlm, TokenBudget(0.5))
    about["towers"]["a"]["dim"] = vlm.towers["a"].dim
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(UnsupportedError, match="was not trained on its tower 'b'"):
        OCVTP(weights=str(tmp_path)).points(vlm, TokenBudget(0.5))
    bound = OCVTP(weights=str(tmp_path)).bind(vlm, TokenBudget(0.5))
    with pytest.raises(ModelError, match="unexpected weight"):
        load_slots(bound.folder, bound.digest, bound.towers, "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no trained pruner"):
        OCVTP(weights=str(tmp_path)).points(vlm, TokenBudget(0.5))


def test_features_are_read_at_the_published_share_of_the_depth() -> None:
    assert [feature_block(depth) for depth in (0, 1, 3, 4, 5, 24)] == [0, 1, 1, 2, 2, 9]
