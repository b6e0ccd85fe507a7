"""Stop strings: the text is that of the whole answer cut, and nothing is generated behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.request import Answer
from meteor_bench.core.stops import Stops, is_complete
from meteor_bench.engine.session import Session
from meteor_bench.methods.none import NoPruning
from tests import tiny

PIECES = ["a", "b", "ab", "c", " ", "\n", "ba", "</s>"]


def cut_afterwards(text: str, until: list[str]) -> str:
    """As it was done before: on the whole text."""
    for stop in until:
        text = text.split(stop)[0] if stop else text
    return text


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.integers(0, len(PIECES) - 2), min_size=1, max_size=14),
    st.lists(st.text("abc \n", max_size=4), max_size=3),
)
def test_any_answer_is_what_it_was_and_no_longer_than_it_must(ids: list[int], until: list[str]) -> None:
    def decode(some: Any) -> str:
        return "".join(PIECES[i] for i in some).strip()

    stops = Stops(decode, [until], frozenset(), [99])
    for i in ids:
        if stops.add([i]):
            break
    length = stops.length(0)
    assert cut_afterwards(decode(ids[:length]), until) == cut_afterwards(decode(ids), until)
    # The first beginning whose text, whatever comes, is cut where it is: by trying what may come.
    some = [stop for stop in until if stop]
    for n in range(1, (length or len(ids) + 1)):
        text = decode(ids[:n])
        kept = cut_afterwards(text, until)
        ended = kept != text and all(
            cut_afterwards(text + stop[k:], until) == kept for stop in some for k in range(len(stop) + 1)
        )
        assert not ended or not is_complete(text, some)


def answers(asked: list[Any], **how: Any) -> dict[str, Answer]:
    out: dict[str, Answer] = {}
    session = Session(tiny.build("shared"), NoPruning(), TokenBudget(1.0))
    session.answer(asked, lambda request, answer: out.update({request.key: answer}), **how)
    return out


@pytest.mark.parametrize("batch_size", [1, 8])
def test_rows_stop_each_for_itself_and_are_counted_so(batch_size: int) -> None:
    base = tiny.requests(4, new_tokens=12)
    whole = answers(base)
    long = [base[1]]
    words = whole[long[0].key].text.split()
    assert len(words) == 12
    third = next(i for i in range(2, 11) if words[i] not in words[:i])
    asked = [replace(r, until=(f" {words[third]}",)) if r is long[0] else r for r in base]
    found = answers(asked, batch_size=batch_size)
    first = found[long[0].key]
    assert first.text == " ".join(words[:third])
    assert first.tokens["answer"] == third + 1
    assert first.flops["decode"] < whole[long[0].key].flops["decode"]
    for request in base:
        if request is not long[0]:
            assert found[request.key].text == whole[request.key].text
            assert found[request.key].tokens == whole[request.key].tokens


def test_nothing_is_generated_behind_the_last_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    from meteor_bench.engine import generate

    steps: list[int] = []
    step = generate._step
    monkeypatch.setattr(generate, "_step", lambda *args: steps.append(1) or step(*args))  # type: ignore[func-returns-value]
    base = tiny.requests(1, new_tokens=40)
    whole = answers(base)
    steps.clear()
    start = whole[base[0].key].text.split()[0]
    found = answers([replace(base[0], until=(start,))])
    assert found[base[0].key].text == "" and found[base[0].key].tokens["answer"] == 1 and not steps


def test_what_is_counted_of_an_answer_does_not_depend_on_longer_ones_beside_it() -> None:
    short, long = tiny.requests(2, new_tokens=3)[0], tiny.requests(2, new_tokens=12)[1]
    alone, beside = answers([short])[short.key], answers([short, long], batch_size=8)[short.key]
    assert beside.text == alone.text and len(alone.text.split()) == alone.tokens["answer"] == 3
    assert beside.tokens == alone.tokens and beside.flops == alone.flops
