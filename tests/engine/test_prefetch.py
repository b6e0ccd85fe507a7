"""Results are made ahead by a thread: the same ones, once, in order, never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch

from meteor_bench.engine.prefetch import Prefetcher


class Kitchen:
    """Calls that say when they are made, and by which thread."""

    def __init__(self, make: Callable[[int], object] = lambda number: number) -> None:
        self.make = make
        self.made: list[int] = []
        self.threads: set[str] = set()

    def calls(self, count: int) -> list[Callable[[], object]]:
        return [partial(self._call, number) for number in range(count)]

    def _call(self, number: int) -> object:
        self.made.append(number)
        self.threads.add(threading.current_thread().name)
        return self.make(number)


def never(result: object) -> bool:
    return False


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_each_is_made_once_in_order_by_the_thread() -> None:
    kitchen = Kitchen()
    with Prefetcher(kitchen.calls(40), 16, never) as prefetcher:
        assert list(prefetcher) == list(range(40))
    assert kitchen.made == list(range(40))
    assert kitchen.threads == {"ahead_0"}
    assert no_thread_is_left()


def test_no_more_than_a_few_wait() -> None:
    kitchen, most = Kitchen(), 0
    with Prefetcher(kitchen.calls(30), 8, never) as prefetcher:
        for number, _ in enumerate(prefetcher):
            time.sleep(0.005)
            most = max(most, len(kitchen.made) - number - 1)
    assert 4 < most <= 8


def test_of_large_ones_a_single_one_is_alive() -> None:
    kitchen = Kitchen()
    with Prefetcher(kitchen.calls(6), 8, lambda result: True) as prefetcher:
        for number, _ in enumerate(prefetcher):
            time.sleep(0.02)
            assert len(kitchen.made) == number + 1
            prefetcher.release()
            time.sleep(0.02)
            assert len(kitchen.made) == min(6, number + 2)  # while this one is worked on


def test_a_large_one_that_waits_is_not_released_with_those_before_it() -> None:
    kitchen = Kitchen()
    with Prefetcher(kitchen.calls(6), 8, lambda result: result == 3) as prefetcher:
        for number, _ in enumerate(prefetcher):
            prefetcher.release()
            time.sleep(0.02)
            assert len(kitchen.made) == (4 if number < 3 else 6)


def test_what_fails_is_raised_at_its_turn() -> None:
    def broken(number: int) -> int:
        if number == 5:
            raise ValueError("number 5")
        return number

    found = []
    with pytest.raises(ValueError, match="number 5"), Prefetcher(Kitchen(broken).calls(9), 4, never) as prefetcher:
        found.extend(prefetcher)
    assert found == [0, 1, 2, 3, 4]
    assert no_thread_is_left()


def test_leaving_early_stops_the_thread() -> None:
    kitchen = Kitchen()

    def leave(results: Iterable[int]) -> None:
        for _ in results:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Prefetcher(kitchen.calls(40), 4, never) as prefetcher:
        leave(prefetcher)
    assert no_thread_is_left() and len(kitchen.made) < 40


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    kitchen = Kitchen(lambda number: torch.get_num_threads())
    with Prefetcher(kitchen.calls(2), 4, never) as prefetcher:
        assert list(prefetcher) == [1, 1]
    assert torch.get_num_threads() == before
