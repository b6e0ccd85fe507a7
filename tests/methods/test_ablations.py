"""The switches that the ablations of METEOR and EvoPrune turn: each runs, counts as it should, does something."""

from __future__ import annotations

from itertools import chain, combinations, product
from typing import Any

import pytest
import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.methods.evoprune.method import EvoPrune
from meteor_bench.methods.meteor.method import STAGES, Meteor
from meteor_bench.methods.shared.schedules import SCHEDULES
from tests import tiny
from tests.laws.cases import generate, shared_model, visual_of

SUBSETS = list(chain.from_iterable(combinations(STAGES, n) for n in (1, 2, 3)))
RANKS = [{"a": 9.0, "b": 20.0, "c": 6.0}, {"a": 11.0, "b": 20.0, "c": 7.0}, {"a": 13.0, "b": 20.0, "c": 5.0}]
FACTS = {"meteor.ranks": RANKS, "meteor.lambda": 60.0}


def origins(method: Meteor | EvoPrune, model: str, keep: float) -> list[list[int]]:
    """Which tokens reach the language model, by sample."""
    tokens = visual_of(
        Engine(shared_model(model), method, TokenBudget(keep), facts=FACTS), tiny.requests(4)[::2]
    ).tokens
    return [row[valid].tolist() for row, valid in zip(tokens.origin, tokens.valid, strict=True)]


@pytest.mark.parametrize("model", ["independent", "shared"])
@pytest.mark.parametrize("stages", SUBSETS, ids="+".join)
@torch.inference_mode()
def test_meteor_runs_with_any_of_its_stages(stages: tuple[str, ...], model: str) -> None:
    method = Meteor(stages=stages, stage3="fixed")
    if stages == ("encode",) and model == "shared":
        with pytest.raises(UnsupportedError, match="removes no token from the language model of 'shared'"):
            Engine(shared_model(model), method, TokenBudget(0.3))
        return
    engine = Engine(shared_model(model), method, TokenBudget(0.3), facts=FACTS)
    traces = [g.trace for g in generate(engine, tiny.requests(2), new_tokens=1)]
    assert [t.final for t in traces] == [19, 19]
    whole = 144 if model == "independent" else 64
    for trace in traces:  # a stage that is off removes nothing
        assert (sum(trace.towers.values()) < 144) == ("encode" in stages)
        assert (trace.fused < whole) == ("fuse" in stages or (stages[0] == "encode" and model == "independent"))
        assert (trace.fused > trace.final) == ("decode" in stages)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"budgets": "rank"}, {"budgets": "uniform"}),
        ({"fusion": "cooperative"}, {"fusion": "independent"}),
        ({"fusion": "cooperative"}, {"fusion": "random"}),
        ({"middle": "shallow"}, {"middle": "deep"}),
        ({"allocation": "global"}, {"allocation": "tower"}),
    ],
    ids=str,
)
@torch.inference_mode()
def test_meteors_switches_of_stages_1_and_2_change_what_is_kept(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = (
        origins(Meteor(stages=("encode", "fuse"), **options), "independent", 0.3) for options in (one, other)
    )
    assert [len(row) for row in first] == [len(row) for row in second] == [19, 19]
    assert first != second


@pytest.mark.parametrize("options", [{"heads": "all"}, {"stage3": "adaptive"}, {"rows": "last"}], ids=str)
@torch.inference_mode()
def test_meteors_switches_of_stage_3_change_the_answers_likelihood(options: dict[str, Any]) -> None:
    def outcome(method: Meteor) -> list[tuple[int, tuple[int, ...]]]:
        engine = Engine(shared_model("independent"), method, TokenBudget(0.2), facts=FACTS)
        return [(g.trace.final, g.ids) for g in generate(engine, tiny.requests(8), new_tokens=6)]

    plain = {"stages": ("decode",), "stage3": "fixed"}
    assert outcome(Meteor(**plain)) != outcome(Meteor(**{**plain, **options}))  # type: ignore[arg-type]


def test_fusion_before_or_after_the_projection_is_a_choice_of_model() -> None:
    for model in ("pocket", "pocket-independent"):
        taken = [resolve_model(model, Meteor(projection=kind)).name for kind in ("post", "pre")]  # type: ignore[arg-type]
        assert taken == ["pocket-independent", "pocket"]
    pre = Meteor(projection="pre", stage3="fixed")
    Engine(shared_model("shared"), pre, TokenBudget(0.3))
    with pytest.raises(UnsupportedError, match=r"projection=pre needs .* 'independent' has a projector for each"):
        Engine(shared_model("independent"), pre, TokenBudget(0.3))


def lowest(x: Tensor, k: int) -> set[int]:
    """Places of the tokens [n, D] least like their mean, by a loop."""
    rows = x.double()
    mean = rows.mean(0)
    like = [float(row @ mean / (row.norm() * mean.norm())) for row in rows]
    return set(sorted(range(len(rows)), key=lambda i: like[i])[:k])


@torch.inference_mode()
def test_independent_fusion_compares_each_encoder_with_itself_alone() -> None:
    vlm, asked = shared_model("independent"), tiny.requests(4)[::2]
    got = origins(Meteor(stages=("fuse",), fusion="independent"), "independent", 0.3)
    modules = tiny.small("independent")
    pixels = tiny.pixels(vlm, asked)
    for row, image in enumerate(pixels):
        features = modules.encode(image)
        shares = TokenBudget.split(19, {"a": 64, "b": 64, "c": 16}, {"a": 64, "b": 64, "c": 16})
        want: set[int] = set()
        for name, shift in (("a", 0), ("b", 64), ("c", 128)):
            z = modules.fusion.project(name, features[name])[0]
            want |= {shift + i for i in lowest(z, shares[name])}
        assert set(got[row]) == want


@pytest.mark.parametrize(
    ("schedule", "attention", "diversity"),
    [
        pytest.param(*switches, marks=() if switches[0] == "skip" or all(switches[1:]) else pytest.mark.slow)
        for switches in product(SCHEDULES, (True, False), (True, False))
    ],
)
@torch.inference_mode()
def test_evoprunes_schedules_and_switches_are_exact(schedule: str, attention: bool, diversity: bool) -> None:
    method = EvoPrune(schedule=schedule, attention=attention, diversity=diversity)  # type: ignore[arg-type]
    engine = Engine(shared_model("single"), method, TokenBudget(0.4))
    traces = visual_of(engine, tiny.requests(2)).traces
    assert [trace.towers["eye"] for trace in traces] == [19, 19]


@torch.inference_mode()
def test_evoprunes_schedules_and_switches_differ() -> None:
    asked = tiny.requests(1)

    def features(**options: Any) -> Tensor:
        tokens = visual_of(Engine(shared_model("single"), EvoPrune(**options), TokenBudget(0.6)), asked).tokens
        return tokens.x

    found = [features(schedule=schedule) for schedule in SCHEDULES]
    found += [features(attention=False), features(diversity=False), features(merge="mean")]
    assert all(not torch.allclose(x, y) for x, y in combinations(found, 2))
