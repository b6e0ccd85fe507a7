"""CoMP's measures and its choice of modes against loops and numbers worked out by hand; its masks against zeros."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from meteor_bench.models.pocket.model import WEIGHTS, load
from meteor_bench.models.pocket.modules import load_pocket
from scripts.comp.importance import received, squares, structured, token_weights
from scripts.comp.masked import Masked
from scripts.comp.search import raised, start, strongest
from scripts.comp.sites import MODES, Bill, Site, sites
from scripts.comp.strategy import Strategy, smoothing
from scripts.comp.tuning import fresh, sliced
from scripts.pocket.low_rank import LowRank
from scripts.pocket.world import make, split_rng

ROOT = Path(__file__).parents[2]
SOURCE = WEIGHTS / "pocket"
G = torch.Generator()


@pytest.fixture(autouse=True)
def drawn_anew() -> None:
    """A test draws the same whichever ran before it in its process."""
    G.manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=G, dtype=torch.float64)


def test_cit_is_the_highest_masked_head_summed_over_the_queries() -> None:
    attention, heads = random(2, 3, 5, 7), torch.tensor([1.0, 0.25, 0.0], dtype=torch.float64)
    queries = torch.tensor([[True] * 5, [True, False, True, False, False]])
    found = received(attention, heads, queries)
    for b in range(2):
        for i in range(7):
            want = 0.0
            for n in range(5):
                if queries[b, n]:
                    want += max(float(heads[h]) * float(attention[b, h, n, i]) for h in range(3))
            assert float(found[b, i]) == pytest.approx(want, abs=1e-12)


def test_cip_weighs_the_class_token_1_and_the_others_1_together() -> None:
    x, weight, score = random(2, 6, 4), random(3, 4), random(2, 5)
    total = squares(x, token_weights(score, first=True))
    found = structured(weight, total, units=2)
    each = []
    for i in range(4):
        norm = 0.0
        for b in range(2):
            row = [float(s) for s in score[b]]
            ranged = [(s - min(row)) / (max(row) - min(row)) for s in row]
            omega = [1.0, *(s / sum(ranged) for s in ranged)]
            norm += sum(omega[n] * float(x[b, n, i]) ** 2 for n in range(6))
        each.append(sum(abs(float(weight[o, i])) for o in range(3)) / 3 * norm**0.5)
    assert found.tolist() == pytest.approx([(each[0] + each[1]) / 2, (each[2] + each[3]) / 2])
    assert torch.allclose(token_weights(score, first=False).sum(1), torch.ones(2, dtype=torch.float64))


def test_the_tokens_of_a_question_are_the_strongest_of_its_own_rows() -> None:
    attention, heads = random(2, 3, 6, 9), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    rows = torch.zeros(2, 2, 6, dtype=torch.bool)
    rows[:, 0, :2] = True
    rows[:, 1, 2:] = True
    place, real = strongest(attention, rows, 4, heads)
    for b in range(2):
        for q in range(2):
            score = [
                sum(
                    max(float(heads[h] * attention[b, h, t, i]) for h in range(3))
                    for t in range(6)
                    if bool(rows[b, q, t])
                )
                for i in range(9)
            ]
            assert place[b, q].tolist() == sorted(sorted(range(9), key=lambda i: -score[i])[:4])
    assert bool(real.all())


def test_an_old_cost_fades_with_the_stages_since() -> None:
    assert [smoothing(i, 0.4, 5) for i in (1, 2, 3, 6, 9)] == pytest.approx([0.4, 0.32, 0.24, 0.0, 0.0])
    mps = Strategy(("a", "b"), explore=False)
    assert mps.choose(["a", "b"]) == "a"
    mps.update("a", 1.0)
    assert mps.choose(["a", "b"]) == "b", "each is tried once"
    mps.update("b", 0.5)
    assert mps.choose(["a", "b"]) == "b" and mps.choose(["a"]) == "a"
    mps.update("b", 2.0)  # the last one was b's: 0.4 of 0.5 and 0.6 of 2
    assert mps.costs == pytest.approx({"a": 1.0, "b": 1.4})
    mps.update("a", 0.0)  # three stages ago: 0.24 of 1
    assert mps.costs == pytest.approx({"a": 0.24, "b": 1.4})


def test_a_neglected_mode_is_explored_more_often() -> None:
    mps = Strategy(("a", "b", "c"), costs=dict.fromkeys("abc", 0.0), last={"a": 0, "b": 5, "c": 9}, stage=10)
    e = [2.718281828459045**x for x in (2.0, 1.0, 0.2)]
    assert mps.odds(["a", "b", "c"]) == pytest.approx([x / sum(e) for x in e])
    mps.history = False
    assert mps.odds(["a", "b", "c"]) == pytest.approx([1 / 3] * 3)


def test_one_stage_in_five_explores() -> None:
    mps = Strategy(("a", "b"), history=False, costs={"a": 0.0, "b": 1.0}, last={"a": 0, "b": 0})
    drawn = []
    for stage in range(2000):
        mps.stage = stage
        drawn.append(mps.choose(["a", "b"]))
    assert drawn.count("b") / 2000 == pytest.approx(0.1, abs=0.02), "half of the explored stages"
    mps.fixed = True
    mps.stage = 1
    assert mps.choose(["a", "b"]) == "b" and mps.choose(["a"]) == "a"


@pytest.fixture(scope="module")
def bill() -> Bill:
    return Bill(load("pocket", "cpu", torch.float32), sites(load_pocket(SOURCE)), before=2)


def test_a_raised_threshold_takes_the_lowest_scores_of_a_mode(bill: Bill) -> None:
    state = start(bill.places)
    scores = {site.name: torch.rand(site.units, generator=G) for site in bill.places}
    for mode in MODES[:3]:
        found = raised(state, mode, 0.03, bill, lambda: scores)
        assert found is not None and found.tokens == 256
        gone, left = [], []
        for site in bill.places:
            stays, normed = found.keep[site.name], scores[site.name] / scores[site.name].mean()
            assert site.mode == mode or bool(stays.all())
            if site.mode == mode:
                gone += [(float(normed[unit]), site.name, unit) for unit in (~stays).nonzero()[:, 0]]
                left += normed[stays].tolist() if int(stays.sum()) > site.least else []
        highest, name, unit = max(gone)
        assert highest <= min(left)
        wanted = min(0.03, bill.of(mode) / bill.whole / 5)
        assert wanted <= bill.removed(found.keep, 256) < wanted + 0.011  # a head of the language model is 1 %
        fewer = {site: stays.clone() for site, stays in found.keep.items()}
        fewer[name][unit] = True
        assert bill.removed(fewer, 256) < wanted, "one unit less would not have done"
    tokens = raised(state, "tokens", 0.03, bill, dict)
    assert tokens is not None and bill.removed({}, tokens.tokens) >= 0.03 > bill.removed({}, tokens.tokens + 1)


def test_a_place_keeps_its_least_and_an_empty_mode_ends(bill: Bill) -> None:
    state, scores = start(bill.places), {site.name: torch.rand(site.units) for site in bill.places}
    while (found := raised(state, "cross-modal", 0.5, bill, lambda: scores)) is not None:
        state = found
    assert int(state.keep["fusion.mlp.2"].sum()) == 384 // 16


@torch.no_grad()
def test_masks_fade_and_masked_is_narrowed(bill: Bill) -> None:
    from meteor_bench.models.pocket.narrow import narrow

    keep = {site.name: torch.rand(site.units, generator=G) < 0.6 for site in bill.places}
    for stays in keep.values():
        stays[0] = True
    model = fresh(SOURCE)
    masked = Masked(model.vlm, bill.places)
    masked.fade(start(bill.places).keep, keep, 0.25)
    one = bill.places[1].name
    assert torch.equal(masked.masks[one], torch.where(keep[one], 1.0, 0.75))
    masked.set(keep)
    samples = [make("scene", split_rng("calib", 3), "calib")]
    tokens = model.look(samples).tokens
    masked.close()
    assert not torch.allclose(model.look(samples).tokens, tokens, atol=0.1)
    narrow(model.vlm, keep)
    assert torch.allclose(model.look(samples).tokens, tokens, atol=1e-4)


def test_an_addition_is_cut_as_its_weights_are() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.GELU(), torch.nn.Linear(6, 2))

    vlm = Two()
    whole = torch.nn.ModuleDict({"vlm": vlm})
    low = LowRank(whole, ("vlm",), rank=2, rate=0.1)
    for part in low.parts.values():
        for tensor in part:
            tensor.data.normal_(generator=G)
    keep = {"mlp.2": torch.tensor([True, False, True, True, False, False])}
    state, at = low.state(), [0, 2, 3]
    found = sliced(state, vlm, keep)
    first, second = (
        found[f"vlm.mlp.{i}.weight.b"] @ found[f"vlm.mlp.{i}.weight.a"] for i in (0, 2)
    )  # the product cut is the cut factors' product
    assert torch.allclose(first, (state["vlm.mlp.0.weight.b"] @ state["vlm.mlp.0.weight.a"])[at])
    assert torch.allclose(second, (state["vlm.mlp.2.weight.b"] @ state["vlm.mlp.2.weight.a"])[:, at])
    assert torch.equal(found["vlm.mlp.0.bias.whole"], state["vlm.mlp.0.bias.whole"][at])
    assert torch.equal(found["vlm.mlp.2.bias.whole"], state["vlm.mlp.2.bias.whole"])


def test_a_head_costs_its_projections_and_its_attention() -> None:
    site = Site("x.self_attn.o_proj", "language", 3, 64, 1, 4, 256, 3 * 192 + 192, True)
    assert site.unit_flops(10) == 2 * 10 * 64 * 192 * 4 + 4 * 10 * 10 * 64


@pytest.mark.slow
def test_the_whole_path_runs_and_is_taken_up_again(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train_comp.py", "all", "--smoke"]
    command += ["--folder", str(tmp_path), "--weights", str(tmp_path / "w")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| simple joint pruning |" in done.stdout
    facts = json.loads((tmp_path / "w" / "pocket-comp" / "comp.json").read_text())
    assert facts["before"] == 2 and facts["removed"] >= 0.029 and len(facts["stages"]) == 2
    assert load("x", "cpu", torch.float32, tmp_path / "w" / "pocket-comp").made_from is not None
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "comp stage" not in again.stderr
