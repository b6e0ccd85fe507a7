"""Compositions: budgets, names, parameters, and what cannot be put together."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meteor_bench.config.run_config import check
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError, MeteorBenchError, UnknownNameError
from meteor_bench.core.model import VLM
from meteor_bench.core.registry import parts_of
from meteor_bench.core.trace import SampleTrace
from meteor_bench.engine.calibrate import calibrate
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import embed_questions, fuse
from meteor_bench.engine.generate import answer
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.methods.shared.helpers import earlier_target
from tests import tiny


@pytest.fixture(scope="module")
def models() -> dict[str, VLM]:
    return {name: tiny.build(name) for name in tiny.MODELS}


@torch.inference_mode()
def traces(
    vlm: VLM, method: str, keep: float, parameters: Mapping[str, Any] | None = None, count: int = 2, frames: int = 1
) -> list[SampleTrace]:
    asked, budget = tiny.requests(count, frames), TokenBudget(keep)
    pruner = make_pruner(method, parameters)
    facts = calibrate(vlm, pruner, budget, asked) if pruner.needs_calibration else {}
    engine = Engine(vlm, pruner, budget, facts=facts)
    prompts = tiny.prompts(vlm, asked)
    towered = encode(engine, tiny.pixels(vlm, asked), [r.key for r in asked])
    visual = fuse(engine, towered, text=embed_questions(engine, prompts))
    return [g.trace for g in answer(engine, visual, range(count), prompts, 1)]


@pytest.mark.parametrize("model", tiny.MODELS)
def test_the_last_part_meets_the_budget_and_the_first_its_share(models: dict[str, VLM], model: str) -> None:
    for method, keep in (("evoprune+fastv", 0.24), ("divprune+sparsevlm", 0.06)):
        for trace in traces(models[model], method, keep):
            n = trace.reference
            assert trace.final == trace.target == TokenBudget(keep).tokens(n)
            assert trace.fused == int(n * keep**0.5 + 0.5)


def test_given_shares(models: dict[str, VLM]) -> None:
    given = {"random": {"share": 1}, "fastv": {"share": 3, "layer": 1}}
    (trace,) = traces(models["single"], "random+fastv", 0.25, given, count=1)
    n = trace.reference
    assert trace.fused == int(n * 0.25**0.25 + 0.5) == trace.llm[0] and trace.llm[1] == trace.target


def test_three_parts_and_calibration(models: dict[str, VLM]) -> None:
    parameters = {"meteor.stages": ["decode"], "evoprune": {"schedule": "mean"}}
    found = traces(models["single"], "evoprune+divprune+meteor", 0.25, parameters, count=4)
    n = found[0].reference
    for trace in found:
        assert trace.towers["eye"] == int(n * 0.25 ** (1 / 3) + 0.5)
        assert trace.fused == int(n * 0.25 ** (2 / 3) + 0.5)
    assert sum(trace.final for trace in found) / 4 == pytest.approx(found[0].target, abs=1)
    assert not make_pruner("evoprune+divprune+meteor", parameters).exact


def test_the_input_stage_composes(models: dict[str, VLM]) -> None:
    (trace,) = traces(models["shared"], "downsample+fastv", 0.25, count=1)
    assert trace.fused == trace.reference // 2 and trace.final == trace.target


def test_names() -> None:
    assert parts_of("fastv") == ["fastv"] and parts_of("evoprune+fastv") == ["evoprune", "fastv"]
    assert parts_of("prumerge++fastv") == ["prumerge+", "fastv"]
    check("method", "evoprune+divprune+fastv")
    with pytest.raises(UnknownNameError, match="unknown method 'fastvv'; did you mean 'fastv'"):
        check("method", "evoprune+fastvv")
    with pytest.raises(UnknownNameError, match=r"unknown method 'fastv\+'; did you mean 'fastv'"):
        make_pruner("evoprune+fastv+")


def test_parameters() -> None:
    nested = make_pruner("evoprune+fastv", {"evoprune": {"schedule": "last", "share": 2}, "fastv": {"layer": 3}})
    dotted = make_pruner("evoprune+fastv", {"evoprune.schedule": "last", "evoprune.share": 2, "fastv.layer": 3})
    assert nested == dotted == make_pruner("evoprune+fastv", nested.parameters())
    assert nested.parameters()["evoprune.share"] == 2.0 and nested.parameters()["fastv.layer"] == 3
    assert nested.positions == "keep"
    assert make_pruner("evoprune+meteor", {"meteor.stages": ["fuse", "decode"]}).prefers == "independent"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"layer": 3}, "'layer' of 'evoprune\\+fastv' names no part; say 'evoprune.layer' or 'fastv.layer'"),
        ({"fastv.depth": 3}, "unknown parameter of method 'fastv' 'depth'"),
        ({"fastv.layer": "x"}, "parameter 'layer' of method 'fastv': expected a whole number, 1 or more, found 'x'"),
        ({"fastv": 3}, "'fastv' of 'evoprune\\+fastv' is 3; expected a table"),
        ({"fastv.share": 0}, "'fastv.share' of .*: expected a number, in \\(0, inf\\), found 0"),
        ({"fastv.share": "all"}, "'fastv.share' of .*: expected a number, in .*, found 'all'"),
    ]
    for parameters, said in wrong:
        with pytest.raises(ConfigError, match=said) as caught:
            make_pruner("evoprune+fastv", parameters)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"<part>.stages"):
        make_pruner("evoprune+fastv", stages=["encode"])


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("divprune+cdpruner", "'divprune' and 'cdpruner' both prune in the fuse stage"),
        ("fastv+pyramiddrop", "'fastv' and 'pyramiddrop' both prune in the decode stage"),
        ("evoprune+meteor", "'evoprune' and 'meteor' both prune in the encode stage"),
        ("fastv+evoprune", "'fastv' prunes in the decode stage, after the encode stage of 'evoprune'"),
        ("fastv+fastv", "names a method twice"),
    ],
)
def test_collisions_are_one_line(method: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        make_pruner(method)
    assert "\n" not in str(caught.value)


def test_a_collision_that_only_one_model_has(models: dict[str, VLM]) -> None:
    """On a shared fusion evoprune also groups at the fuse stage."""
    for name in ("independent", "single"):
        Engine(models[name], make_pruner("evoprune+divprune"), TokenBudget(0.5))
    with pytest.raises(MeteorBenchError, match="'evoprune' and 'divprune' both prune in the fuse stage"):
        Engine(models["shared"], make_pruner("evoprune+divprune"), TokenBudget(0.5))


def test_a_part_keeps_its_proportional_attention(models: dict[str, VLM]) -> None:
    """What the encoders give under tome and a later part is what they give under tome alone, at its share."""
    found = []
    for method, keep in (("tome+fastv", 0.25), ("tome", 0.5)):
        vlm, budget = models["single"], TokenBudget(keep)
        asked = tiny.requests(2)
        with torch.inference_mode():
            engine = Engine(vlm, make_pruner(method), budget)
            towered = encode(engine, tiny.pixels(vlm, asked), [r.key for r in asked])
        found.append([tokens.x for tokens in towered.tokens.values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("keep", [0.25, 0.5])
def test_the_points_and_the_views_round_alike(keep: float) -> None:
    """At a half the plan and the view must not differ by a token: 0.5 of 25 is 12."""
    view = SimpleNamespace(reference=torch.tensor([25, 27, 49, 98]), keep=keep, target=torch.ones(4).long())
    planned = [TokenBudget(keep).tokens(n) for n in (25, 27, 49, 98)]
    assert earlier_target(view, 1.0).tolist() == planned  # type: ignore[arg-type]
