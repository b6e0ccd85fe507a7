"""Questions that share a row of the cache: each is answered as if it were alone, however many stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from meteor_bench.core.request import Answer, Request
from meteor_bench.engine import images as shown
from meteor_bench.engine import prefill
from meteor_bench.engine import session as sessions
from meteor_bench.engine.sequence import Segment, causal_mask, spread
from meteor_bench.engine.session import Session
from tests import tiny
from tests.laws.cases import Case, engine, likelihoods, param

CASES = [
    *(Case("none", model) for model in (*tiny.MODELS, *tiny.FAMILIES)),
    Case("evoprune", "independent"),  # images of different widths
    Case("fastv", "shared"),  # reads attention in the layer before it prunes
    Case("dart", "single"),  # reads keys there
    Case("pyramiddrop", "independent"),  # reads its own layer
    Case("meteor", "independent"),
]


def asked(images: int = 2, questions: int = 7) -> list[Request]:
    """Of different lengths, also within an image."""
    some = tiny.requests(2 * images)
    return [
        replace(some[2 * i], key=f"{i}/{k}", question=f"{tiny.QUESTIONS[k % 4]} {'so ' * (k // 4)}".strip())
        for k in range(questions)
        for i in range(images)
    ]


def session(case: Case, monkeypatch: pytest.MonkeyPatch, shares: list[int]) -> Session:
    """One in which up to four questions share a row, however small the image; it notes how many do."""
    monkeypatch.setattr(shown, "most_at_once", lambda questions, width, size: 4 if width else 1)
    monkeypatch.setattr(prefill, "ROOM", 1)  # so that caches have to grow
    made = engine(case, 0.5)
    run: dict[str, Any] = {name: getattr(sessions, name) for name in ("answer", "score")}
    for name in run:

        def noted(*args: Any, _name: str = name, share: int = 1, **more: Any) -> Any:
            shares.append(share)
            return run[_name](*args, share=share, **more)

        monkeypatch.setattr(sessions, name, noted)
    return Session(made.vlm, made.pruner, made.budget, facts=made.facts)


@pytest.mark.parametrize("case", [param(case) for case in CASES], ids=str)
def test_likelihoods_are_those_of_questions_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[int] = []
    requests, answers = asked(), ["red so", "why", "9 11 3", "blue", "it", "a b c d", "7"] * 2
    of = session(case, monkeypatch, shares)
    together = of.loglikelihood(requests, answers)
    assert max(shares) > 1
    for request, text, found in zip(requests, answers, together, strict=True):
        with torch.inference_mode():
            (alone,) = likelihoods(of.engine, [request], [of.vlm.processor.continuation(text)])
        assert found.loss == pytest.approx(alone.loss, abs=2e-4), request.key
        assert found.greedy == alone.greedy


@pytest.mark.parametrize("case", [param(case) for case in CASES], ids=str)
def test_answers_and_counts_are_those_without_sharing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[int] = []
    of = session(case, monkeypatch, shares)

    def answers(**how: Any) -> dict[str, tuple[str, object, object]]:
        out: dict[str, tuple[str, object, object]] = {}

        def note(request: Request, answer: Answer) -> None:
            out[request.key] = (answer.text, answer.tokens, answer.flops)

        of.answer(asked(), note, **how)
        return out

    together = answers()
    assert max(shares) > 1
    shares.clear()
    assert together == answers(reuse=False)
    assert set(shares) == {1}


# ---------------------------------------------------------------- what a question sees, spelled out


def seen_by(valid: Sequence[Sequence[bool]], cached: Sequence[Sequence[bool]], share: int) -> list[list[list[bool]]]:
    """The mask in loops: [R][share·T][K + share·T]."""
    t, rows = len(valid[0]), []
    for row in range(len(valid) // share):
        queries = []
        for i in range(share * t):
            own = [
                j == i or (j // t == i // t and j <= i and valid[row * share + j // t][j % t]) for j in range(share * t)
            ]
            queries.append([*cached[row * share], *own])
        rows.append(queries)
    return rows


@pytest.mark.parametrize("share", [1, 2, 3])
def test_masks(share: int) -> None:
    generator = torch.Generator().manual_seed(share)
    valid = torch.rand(6, 4, generator=generator) < 0.7
    cached = (torch.rand(6 // share, 5, generator=generator) < 0.7).repeat_interleave(share, 0)
    mask = causal_mask(valid, cached, share)
    assert mask is not None
    assert mask[:, 0].tolist() == seen_by(valid.tolist(), cached.tolist(), share)


def test_a_question_sees_its_own_tokens_only() -> None:
    valid = torch.tensor([[True, True], [True, False]])
    assert spread(valid, 2).int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]
    segment = Segment(0, 1, spread(valid, 2), torch.tensor([7, 6]), share=2)
    positions, mask = segment.append()
    assert positions.tolist() == [[7, 6]] and segment.next.tolist() == [8, 7]
    assert mask.int().tolist() == [[[[1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]]]]
