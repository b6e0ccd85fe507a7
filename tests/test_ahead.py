"""Pictures are decoded ahead of the session: the same ones, once, in its order, never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from meteor_bench.ahead import DEPTH, Ahead
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.make import make_pruner
from meteor_bench.core.session import Answer, Request, Session
from meteor_bench.errors import DataError
from meteor_bench.models.processing import Clip
from tests import tiny


class Library:
    """Media that say when they are decoded, and by which thread."""

    def __init__(self, make: Callable[[int], Sequence[Any]] = lambda i: [i]) -> None:
        self.make = make
        self.decoded: list[int] = []
        self.threads: set[str] = set()

    def requests(self, images: int, questions: int = 1) -> list[Request]:
        return [Request(f"t/{i}/{q}", f"m{i}", self.of(i), "q", 4) for q in range(questions) for i in range(images)]

    def of(self, number: int) -> Callable[[], Sequence[Any]]:
        def media() -> Sequence[Any]:
            self.decoded.append(number)
            self.threads.add(threading.current_thread().name)
            return self.make(number)

        return media


class Plain:
    """A session that asks for the media of each group in turn, as the real one does."""

    frames = 4

    def __init__(self, each: Callable[[Sequence[Any]], None] = lambda media: None) -> None:
        self.each = each

    def answer(self, requests: Sequence[Request], on_answer: Any, batch_size: int, reuse: bool) -> None:
        groups: dict[str, list[Request]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(request.media_key if reuse else str(i), []).append(request)
        for group in groups.values():
            media = group[0].media()
            self.each(media)
            for request in group:
                on_answer(request, Answer(f"{media[0]}", {}))


def answers(session: Any, requests: Sequence[Request], reuse: bool = True) -> dict[str, str]:
    found: dict[str, str] = {}
    session.answer(requests, lambda request, answer: found.update({request.key: answer.text}), 8, reuse)
    return found


@pytest.mark.parametrize("reuse", [True, False])
def test_each_is_decoded_once_by_the_thread(reuse: bool) -> None:
    library = Library()
    requests = library.requests(40, questions=2)
    session = Ahead(Plain())  # type: ignore[arg-type]
    assert answers(session, requests, reuse) == {r.key: r.media_key[1:] for r in requests}
    assert library.decoded == [*range(40)] * (1 if reuse else 2)
    assert library.threads == {"ahead_0"} and session.frames == 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_no_more_than_a_few_pictures_wait() -> None:
    library = Library()
    most = 0

    def slow(media: Sequence[Any]) -> None:
        nonlocal most
        time.sleep(0.005)
        most = max(most, len(library.decoded) - media[0] - 1)

    answers(Ahead(Plain(slow)), library.requests(3 * DEPTH))  # type: ignore[arg-type]
    assert DEPTH // 2 < most <= DEPTH


def test_of_long_videos_one_waits() -> None:
    library = Library(lambda number: Clip([number] * 8))
    most = 0

    def slow(media: Sequence[Any]) -> None:
        nonlocal most
        time.sleep(0.02)
        most = max(most, len(library.decoded) - media[0] - 1)

    answers(Ahead(Plain(slow)), library.requests(6))  # type: ignore[arg-type]
    assert most == 1


def test_what_cannot_be_read_is_raised_at_its_turn() -> None:
    def broken(number: int) -> list[int]:
        if number == 5:
            raise DataError("row 5")
        return [number]

    found: list[str] = []
    with pytest.raises(DataError, match="row 5"):
        Ahead(Plain()).answer(  # type: ignore[arg-type]
            Library(broken).requests(9), lambda request, answer: found.append(answer.text), 8
        )
    assert found == ["0", "1", "2", "3", "4"]


def test_a_session_that_stops_early_stops_the_thread() -> None:
    def stop(media: Sequence[Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answers(Ahead(Plain(stop)), Library().requests(40))  # type: ignore[arg-type]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_answers_of_a_model_are_the_same() -> None:
    requests = [*tiny.requests(5), *(replace(r, media_key="clip") for r in tiny.requests(2, frames=6))]
    session = Session(tiny.build("shared"), make_pruner("fastv", {"layer": 1}), TokenBudget.from_ratio(0.5))
    assert answers(Ahead(session), requests) == answers(session, requests)
