"""Numbers that are not finite: the model's are a failed sample, a method's are an error that names method and point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from meteor_bench.core import decisions
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import Decision, DecodePoint, EncodePoint, FusePoint, Points, Pruner, View
from meteor_bench.core.request import Answer
from meteor_bench.engine.session import Session
from meteor_bench.methods.fastv import FastV
from meteor_bench.methods.none import NoPruning
from meteor_bench.runs.latency.interleave import measure
from tests import tiny


def answers(of: Session, asked: list[Any], **how: Any) -> dict[str, Answer]:
    out: dict[str, Answer] = {}
    of.answer(asked, lambda request, answer: out.update({request.key: answer}), **how)
    return out


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_logits_that_overflow_fail_their_sample_alone(value: float, batch_size: int) -> None:
    asked = tiny.requests(4)
    sound = answers(Session(tiny.build("shared"), NoPruning(), TokenBudget(1.0)), asked)
    vlm = tiny.build("shared")
    # A word that one question alone has, and no answer.
    word = next(i for i in range(5, 64) if all(i not in vlm.processor.prompt(r.question).after for r in asked))
    said = {int(i) for a in sound.values() for i in a.text.split()}
    assert word not in said
    body = vlm.decoder.model
    body.lm_head.weight = torch.nn.Parameter(body.lm_head.weight.detach().clone())  # of its own
    with torch.no_grad():
        body.model.embed_tokens.weight[word] = value
    asked[1] = replace(asked[1], question=f"{word}")
    found = answers(Session(vlm, NoPruning(), TokenBudget(1.0)), asked, batch_size=batch_size)
    assert found["tiny/1"].text == ""
    assert found["tiny/1"].notes == (
        "failed: tiny: row 1: the model's logits are not finite in float32 (NaN or infinity)",
    )
    for key in ("tiny/0", "tiny/2", "tiny/3"):
        assert (found[key].text, found[key].notes) == (sound[key].text, sound[key].notes)


def test_likelihoods_that_are_no_numbers_are_an_error() -> None:
    vlm = tiny.build("shared")
    with torch.no_grad():
        vlm.decoder.model.model.embed_tokens.weight[20] = torch.nan
    with pytest.raises(UnsupportedError, match=r"^tiny/0: the model's logits are not finite in float32"):
        Session(vlm, NoPruning(), TokenBudget(1.0)).loglikelihood(tiny.requests(1), ["20 21"])


@dataclass(frozen=True)
class Spoils(Pruner):
    """Half of the tokens; NaN in what is named, where it is named.

    Attributes:
        kind: of point.
        what: one of `SPOILT`.
    """

    kind: str = "encode"
    what: str = "score"

    def points(self, vlm: Any, budget: Any) -> Points:
        return {
            "encode": Points(encode=(EncodePoint({"a": 2}),)),
            "fuse": Points(fuse=FusePoint()),
            "decode": Points(decode=(DecodePoint(2),)),
        }[self.kind]

    def _decide(self, view: View) -> Decision:
        keep = view.tokens.visual & (torch.arange(view.tokens.x.shape[1]) % 2 == 0)
        spoilt = torch.full(keep.shape, torch.nan)
        if self.what == "tokens":
            view.tokens.x[0, 0] = torch.nan
            return Decision(keep)
        if self.what == "weight":
            into = torch.where(keep, -1, torch.arange(keep.shape[1]) - 1)
            return Decision(keep, merge_into=into, weight=spoilt)
        if self.what == "mix":
            return Decision(keep, mix=torch.full((len(keep), int(keep.sum(1).max()), keep.shape[1]), torch.nan))
        return Decision(keep, score=spoilt)

    def encode(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        return {name: self._decide(view) for name, view in views.items()}

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        return {name: self._decide(view) for name, view in views.items()}

    def decode(self, view: View) -> Decision:
        return self._decide(view)


SPOILT = ("score", "weight", "mix", "tokens")
WHERE = {
    "encode": r"encode point 0 \(after block 2 of 'a'\)",
    "fuse": r"fuse point \(.*\)",
    "decode": r"decode point 0 \(before layer 2\)",
}


@pytest.mark.parametrize(
    ("kind", "what", "model"),
    [
        *((kind, what, "shared") for kind in WHERE for what in SPOILT),
        *(("fuse", what, "independent") for what in SPOILT),
    ],
)
def test_what_a_method_spoils_names_it_and_the_point(kind: str, what: str, model: str) -> None:
    session = Session(tiny.build(model), Spoils(kind, what), TokenBudget(0.5))
    with pytest.raises(UnsupportedError, match=rf"^Spoils gives numbers that are not finite .* at its {WHERE[kind]}$"):
        answers(session, tiny.requests(4))


def test_a_latency_run_of_a_session_that_has_answered_looks_at_nothing() -> None:
    session = Session(tiny.build("shared"), FastV(layer=2), TokenBudget(0.5))
    answers(session, tiny.requests(1))
    looked: list[str] = []
    session.engine.watch.after = lambda *told: (
        looked.append(told[0]) if session.engine.watch._flags is not None else None
    )  # type: ignore[method-assign]
    answers(session, tiny.requests(1))
    assert looked, "else this test says nothing"
    looked.clear()
    measure({"run": session}, tiny.requests(1), new_tokens=2, warmup=1)
    assert not looked


def test_a_count_that_the_mask_has_not_is_found_where_it_cannot_be_looked_at_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lies(Spoils):
        def _decide(self, view: View) -> Decision:
            keep = view.tokens.visual & (torch.arange(view.tokens.x.shape[1]) % 2 == 0)
            return Decision(keep, count=keep.sum(1) - 1)

    monkeypatch.setattr(decisions, "_check_count", lambda *told: None)  # as on a GPU
    session = Session(tiny.build("shared"), Lies("fuse"), TokenBudget(0.5))
    with pytest.raises(
        UnsupportedError, match=r"^Lies gives another Decision\.count than Decision\.keep has at its fuse"
    ):
        answers(session, tiny.requests(2))


def test_a_latency_run_looks_at_nothing() -> None:
    session = Session(tiny.build("shared"), Spoils("fuse", "score"), TokenBudget(0.5))
    timing = measure({"run": session}, tiny.requests(1), new_tokens=2, warmup=1)["run"]
    assert timing.samples and session.engine.watch.read() == ""
