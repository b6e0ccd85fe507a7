"""Pictures and videos decoded while the model computes: a thread is a few of them ahead of the session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from meteor_bench.core.session import SHORT
from meteor_bench.models.processing import Clip

if TYPE_CHECKING:
    from meteor_bench.core.session import Answer, Request, Session

__all__ = ["Ahead"]

DEPTH = 16  # decoded pictures that wait; as many as a session encodes together


class Ahead:
    """A session that finds its pictures decoded; in all else the session itself.

    Of long videos at most one waits, beside the one that is being answered.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def answer(
        self,
        requests: Sequence[Request],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int = 64,
        reuse: bool = True,
    ) -> None:
        """`Session.answer`; what cannot be read is raised when its turn comes."""
        # The order in which a session asks for them.
        order: dict[str, Request] = {}
        for i, request in enumerate(requests):
            order.setdefault(request.media_key if reuse else f"{i}", request)
        numbers = {id(request): number for number, request in enumerate(order.values())}
        with _Reader([request.media for request in order.values()]) as reader:
            read = {ask: partial(reader.take, number) for ask, number in numbers.items()}
            asked = [replace(r, media=read.get(id(r), r.media)) for r in requests]
            self._session.answer(asked, on_answer, batch_size, reuse)


class _Reader:
    """Decodes in order, in a thread that ends with the ``with`` block."""

    def __init__(self, media: Sequence[Callable[[], Sequence[Any]]]) -> None:
        self._media = media
        self._taken = 0  # how many were asked for
        self._long = -1  # the last one that was a long video
        self._closed = False
        self._changed = threading.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._found = {number: self._thread.submit(self._read, number) for number in range(len(media))}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._mark(closed=True)
        self._thread.shutdown(cancel_futures=True)

    def take(self, number: int) -> Sequence[Any]:
        """One of them, decoded."""
        if number not in self._found:  # once more
            return self._media[number]()
        for passed in range(self._taken, number):  # left out: kept for nobody
            self._found.pop(passed, None)
        self._mark(taken=number)
        found = self._found.pop(number).result()
        self._mark(taken=number + 1)
        return found

    def _mark(self, taken: int = 0, closed: bool = False) -> None:
        with self._changed:
            self._taken, self._closed = max(taken, self._taken), closed
            self._changed.notify_all()

    def _read(self, number: int) -> Sequence[Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(number))
        if self._closed:
            return ()
        media = self._media[number]()
        if isinstance(media, Clip) and len(media) > SHORT:
            self._long = number
        return media

    def _has_room(self, number: int) -> bool:
        """Whether what waits is few pictures, and no long video."""
        return number <= self._taken or (number < self._taken + DEPTH and self._long < self._taken)
