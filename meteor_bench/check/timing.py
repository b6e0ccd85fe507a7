"""How long a method selects, relative to the unpruned model's time to its first token, in the same process.

On a machine that others load too, wall time says little and a mean nothing. On a CPU the clock is this thread's
processor time, on one thread, so that waiting for a core does not count; both sessions answer the same requests in
turn, and of every request the least time of many counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from meteor_bench.check.baseline import Ratios
from meteor_bench.core.clock import Clock
from meteor_bench.core.count import FlopMeter

if TYPE_CHECKING:
    from meteor_bench.core.session import Request, Session

__all__ = ["Timer", "pruning_flops"]


class _Processor(Clock):
    """Counts the seconds that this thread computes."""

    def _now(self) -> float:
        return time.thread_time()


class Timer:
    """Times a method beside the unpruned model; the more often, the closer to what an idle machine needs.

    Args:
        session: the method's; may be the unpruned one.
        unpruned: the model that it is compared with, on the same device.
        requests: what both answer.
    """

    def __init__(self, session: Session, unpruned: Session, requests: Sequence[Request]) -> None:
        self._session, self._unpruned = session, unpruned
        self._requests = [_decoded(request) for request in requests]
        self._selection = [float("inf")] * len(requests)
        self._first = [float("inf")] * len(requests)
        self._reference = [float("inf")] * len(requests)

    def measure(self, repeats: int) -> Ratios:
        """Answer all requests some more times; the ratios over everything measured so far."""
        with _one_thread():
            for _ in range(repeats):
                for at, request in enumerate(self._requests):
                    self._once(at, request)
        reference = sum(self._reference)
        return Ratios(sum(self._selection) / reference, sum(self._first) / reference)

    def _once(self, at: int, request: Request) -> None:
        reference, _ = _times(self._unpruned, request)
        first, selection = _times(self._session, request)
        self._reference[at] = min(self._reference[at], reference)
        self._first[at] = min(self._first[at], first)
        self._selection[at] = min(self._selection[at], selection)


def pruning_flops(session: Session, requests: Sequence[Request]) -> int:
    """FLOPs of the selection over some requests, as torch's own counter sees them."""
    with FlopMeter(session.device) as meter:
        for request in requests:
            _answer(session, request, meter)
        return meter.read_flops().get("prune", 0)


def _times(session: Session, request: Request) -> tuple[float, float]:
    """Milliseconds to the first token, and those of them that selection takes."""
    clock = (Clock if session.device.type == "cuda" else _Processor)(session.device)
    _answer(session, request, clock)
    stages = clock.read_ms()
    return sum(stages.values()) - stages.get("decode", 0.0), stages.get("prune", 0.0)


def _answer(session: Session, request: Request, clock: Clock) -> None:
    """The first token, nothing reused, under another clock."""
    before = session.engine.clock
    session.engine.clock = clock
    try:
        session.answer([request], lambda *_: None, batch_size=1, reuse=False)
    finally:
        session.engine.clock = before


def _decoded(request: Request) -> Request:
    """The request for one token, its pictures in memory."""
    frames = request.media()
    return replace(request, media=lambda: frames, max_new_tokens=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
