"""Several threads at one model: the small operations of a small model do not fill the cores of a CPU one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

import torch

__all__ = ["Workers", "share_out"]

T = TypeVar("T")

MOST = 4  # Python's lock lets no more of them compute at a time, where operations are small


class Workers(NamedTuple):
    """How many threads work at once, and how many of torch's own each of them has."""

    hands: int
    threads: int

    @classmethod
    def on(cls, device: torch.device, jobs: int) -> Workers:
        """For that many pieces of work on a device: a GPU is filled by one."""
        threads = torch.get_num_threads()
        hands = max(1, min(threads, MOST, jobs)) if device.type == "cpu" else 1
        return cls(hands, threads // hands)

    def portion(self, jobs: int, most: int) -> int:
        """Pieces of work to take at once, so that no more than ``most`` are at hand and all hands end together."""
        rounds = max(1, -(-jobs // max(self.hands, most)))
        return max(1, min(most // self.hands, -(-jobs // (rounds * self.hands))))


def share_out(items: Iterator[T], use: Callable[[T, threading.Event], None], workers: Workers) -> None:
    """Call ``use`` on every item, each by one of the workers; items are made by one at a time.

    The first exception ends the work and is raised here. A workers of one is the thread that calls.

    Args:
        use: also told, by an event that is set, when there is no point in going on.
    """
    turn, ended = threading.Lock(), threading.Event()
    if workers.hands == 1:
        for item in items:
            use(item, ended)
        return

    def work() -> None:
        torch.set_num_threads(workers.threads)  # of this thread
        try:
            with torch.inference_mode():
                while not ended.is_set():
                    with turn:
                        item = next(items, None)
                    if item is None or ended.is_set():
                        return
                    use(item, ended)
        except BaseException:
            ended.set()
            raise

    with ThreadPoolExecutor(workers.hands, "answer") as pool:
        hands = [pool.submit(work) for _ in range(workers.hands)]
        try:
            wait(hands, return_when=FIRST_EXCEPTION)
        finally:
            ended.set()  # also when Ctrl-C ended the waiting
    for hand in hands:
        hand.result()
