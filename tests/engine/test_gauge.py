"""Nothing is passed twice for what is measured beside an answer."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.request import Answer, Request
from meteor_bench.engine import gauge, images
from meteor_bench.engine import ready as module
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.prefetch import Prefetcher
from meteor_bench.engine.ready import ready
from meteor_bench.engine.session import Session, Target
from tests import tiny


def answers(made: Session, asked: list[Request]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    made.answer(asked, lambda request, answer: found.update({request.key: answer}))
    return found


def test_an_unpruned_run_is_its_own_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, asked = tiny.build("single"), tiny.requests(2, new_tokens=2)
    pruned = answers(Session(vlm, make_pruner("fastv"), TokenBudget(0.5), measured=True), asked)

    def never(*_: Any) -> None:
        raise AssertionError("a pass for the reference")

    monkeypatch.setattr(gauge, "encode", never)
    plain = answers(Session(vlm, make_pruner("none"), TokenBudget(1.0), measured=True), asked)
    for key, answer in plain.items():
        assert answer.flops["prune"] == 0
        assert answer.tokens["reference_flops"] == pruned[key].tokens["reference_flops"]


@pytest.mark.slow
def test_a_search_among_few_calibration_samples_takes_each_budget_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    calibrate = module.calibrate

    def noted(vlm: Any, pruner: Any, budget: TokenBudget, *given: Any, **more: Any) -> Any:
        tried.append(budget.keep)
        return calibrate(vlm, pruner, budget, *given, **more)

    monkeypatch.setattr(module, "calibrate", noted)
    vlm, pruner = tiny.build("single"), make_pruner("prumerge")
    made = ready(vlm, pruner, 0.5, "kv", method="prumerge", calibration=partial(tiny.requests, 4))
    assert made.provenance["facts"]["match"]["calibrated"] == pytest.approx(0.5, abs=0.05)
    assert len(tried) > 2 and len(tried) == len(set(tried))


def test_a_long_video_under_two_budgets_is_held_until_both_have_encoded_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Session(tiny.build("single"), make_pruner("random"), TokenBudget(0.5), target=Target("flops", 0.5, "random"))
    asked = tiny.requests(2, frames=6, new_tokens=1)

    shortest = min(len(prompt.after) for prompt in tiny.prompts(made.vlm, asked))

    class Found:
        def budget(self, _: Any, question: int) -> TokenBudget:
            return TokenBudget(0.5 if question == shortest else 0.25)

    made._resolver = Found()  # type: ignore[assignment]
    told: list[str] = []
    encode, release = images.encode, Prefetcher.release
    monkeypatch.setattr(images, "encode", lambda *given: told.append("encode") or encode(*given))
    monkeypatch.setattr(Prefetcher, "release", lambda one: told.append("release") or release(one))
    assert len({answer.tokens["final"] for answer in answers(made, asked).values()}) == 2
    assert told == ["encode", "encode", "release"]
