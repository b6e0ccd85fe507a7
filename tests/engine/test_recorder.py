"""The engine's recorder: what it is shown agrees with the trace, and being watched changes nothing."""

from collections.abc import Sequence

import pytest

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.request import Answer, Request
from meteor_bench.core.tokens import Tokens
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.session import Session
from tests import tiny

Shown = dict[tuple[str, int, str], Tokens]


def watched(model: str, method: str, asked: Sequence[Request]) -> tuple[Shown, list[Answer]]:
    """What a recorder saw of one batch, and the answers."""
    session = Session(tiny.build(model), make_pruner(method), TokenBudget.from_ratio(0.5))
    seen: Shown = {}
    answers: dict[str, Answer] = {}
    with session.engine.instrumented(
        recorder=lambda kind, point, tower, left: seen.update({(kind, point, tower): left})
    ):
        session.answer(asked, lambda request, answer: answers.update({request.key: answer}))
    return seen, [answers[r.key] for r in asked]


def represented(tokens: Tokens) -> list[list[int]]:
    """By brute force, the origins that stand for any cell of each row."""
    return [sorted({int(g) for g in row if g >= 0}) for row in tokens.group]


@pytest.mark.parametrize("model", tiny.MODELS)
@pytest.mark.parametrize("method", ["evoprune", "visionzip", "pyramiddrop"])
def test_the_recorder_sees_what_the_trace_counts(model: str, method: str) -> None:
    asked = tiny.requests(1, frames=3)
    seen, (answer,) = watched(model, method, asked)
    for tower, count in answer.tokens["towers"].items():
        assert int(seen["tower", 0, tower].counts().sum()) == count
    assert int(seen["fuse", 0, "fused"].counts().sum()) == answer.tokens["fused"]
    last = seen[max((key for key in seen if key[0] == "decode"), default=("fuse", 0, "fused"))]
    assert int(last.counts().sum()) == answer.tokens["final"]
    for (kind, _, _), tokens in seen.items():
        rows = 3 if kind == "encode" else 1
        assert tokens.group.shape == (rows, tokens.grid.n)
        kept = [sorted(row[seen_].tolist()) for row, seen_ in zip(tokens.origin, tokens.visual, strict=True)]
        assert represented(tokens) == kept


@pytest.mark.parametrize(("method", "kinds"), [("fastv", {"decode"}), ("evoprune", {"encode"}), ("random", set())])
def test_each_point_is_shown_once(method: str, kinds: set[str]) -> None:
    asked = tiny.requests(2)
    seen, _ = watched("shared", method, asked)
    assert {kind for kind, _, _ in seen} - {"tower", "fuse"} == kinds


def test_being_watched_changes_no_answer() -> None:
    asked = tiny.requests(4)
    session = Session(tiny.build("shared"), make_pruner("evoprune"), TokenBudget.from_ratio(0.5))
    unwatched: dict[str, Answer] = {}
    session.answer(asked, lambda request, answer: unwatched.update({request.key: answer}))
    _, answers = watched("shared", "evoprune", asked)
    assert [a.text for a in answers] == [unwatched[r.key].text for r in asked]
