"""What comes next is made ready while the model computes: a thread is a few steps ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar, cast

import torch

__all__ = ["Prefetcher"]

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """The results of calls, in order, each made by a thread before its turn; iterate inside a ``with`` block.

    What a call raises is raised at its turn. Of large results one is alive at a time: after it, no call begins until
    it was taken and `release`d.

    Args:
        calls: made one after another.
        depth: how many results may wait.
        large: whether a result is large.
    """

    def __init__(self, calls: Sequence[Callable[[], T]], depth: int, large: Callable[[T], bool]) -> None:
        self._calls, self._depth, self._large = calls, depth, large
        self._taken = 0
        self._alive = -1  # number of the large result that is alive, or was last
        self._released = -1  # of these, the last that is not any more
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> Prefetcher[T]:
        # One thread of torch's: those of the model are busy, and a second set would only wait for their cores.
        self._thread = ThreadPoolExecutor(1, "ahead", initializer=torch.set_num_threads, initargs=(1,))
        self._made: list[Future[T | None]] = [self._thread.submit(self._make, n) for n in range(len(self._calls))]
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._calls)):
            yield self._take(number)

    def _take(self, number: int) -> T:
        with self._changed:
            self._taken = number
            self._changed.notify_all()
        made, self._made[number] = self._made[number], Future()  # the list holds it no longer
        return cast("T", made.result())  # None comes of a closed one only

    def release(self) -> None:
        """The large result that was taken last is not held any more."""
        with self._changed:
            if self._alive <= self._taken:
                self._released = self._alive
            self._changed.notify_all()

    def _make(self, number: int) -> T | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(number))
        if self._closed:
            return None
        result = self._calls[number]()
        if self._large(result):
            with self._changed:
                self._alive = number
        return result

    def _has_room(self, number: int) -> bool:
        return number < self._taken + self._depth and self._released == self._alive
