"""How long a method selects, relative to the unpruned model's time to its first token, in the same process.

On a machine that others load too, wall time says little and a mean nothing. On a CPU the clock is this thread's
processor time, on one thread, so that waiting for a core does not count; others still slow it down, through the caches
that they share. Both sessions answer the same requests in turn. Two estimates are made, the ratio of the least times
and the median of the ratios of neighbours, and the smaller one counts: noise makes one of them too large, a slow method
both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from meteor_bench.core.clock import Clock
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.runs.regression.baseline import Ratios

if TYPE_CHECKING:
    from meteor_bench.core.request import Request
    from meteor_bench.engine.session import Session

__all__ = ["Timer", "one_thread", "pruning_flops"]


class _Processor(Clock):
    """Counts the seconds that this thread computes."""

    def _now(self) -> float:
        return time.thread_time()


class _Pair(NamedTuple):
    """Milliseconds of one request: the unpruned model's to the first token, the method's selection and first token."""

    reference: float
    selection: float
    first: float


class Timer:
    """Times a method beside the unpruned model; the more often, the closer to what an idle machine needs.

    Args:
        session: the method's.
        unpruned: the model that it is compared with, on the same device.
        requests: what both answer.
    """

    def __init__(self, session: Session, unpruned: Session, requests: Sequence[Request]) -> None:
        self._session, self._unpruned = session, unpruned
        self._requests = [_decoded(request) for request in requests]
        self._rounds: list[list[_Pair]] = []

    def measure(self, repeats: int) -> Ratios:
        """Answer all requests some more times; the ratios over everything measured so far."""
        with one_thread():
            for _ in range(repeats):
                turned = len(self._rounds) % 2 > 0
                self._rounds.append([self._pair(request, turned) for request in self._requests])
        times = torch.tensor(self._rounds, dtype=torch.float64)  # [rounds, requests, 3]
        reference, *own = times.amin(0).sum(0).tolist()
        medians = (times[..., 1:] / times[..., :1]).flatten(0, 1).quantile(0.5, dim=0).tolist()
        selection, first = (min(least / reference, median) for least, median in zip(own, medians, strict=True))
        return Ratios(selection, first)

    def _pair(self, request: Request, turned: bool) -> _Pair:
        """Both, in turns the one and the other first."""
        if turned:
            first, selection = _times(self._session, request)
        reference, _ = _times(self._unpruned, request)
        if not turned:
            first, selection = _times(self._session, request)
        return _Pair(reference, selection, first)


def pruning_flops(session: Session, requests: Sequence[Request]) -> int:
    """FLOPs of the selection over some requests, as torch's own counter sees them."""
    with FlopMeter(session.device) as meter:
        for request in requests:
            _answer(session, request, meter)
        return meter.read_flops().get("prune", 0)


class _Times(NamedTuple):
    """Milliseconds of one request."""

    first: float
    selection: float


def _times(session: Session, request: Request) -> _Times:
    """Milliseconds to the first token, and those of them that selection takes."""
    clock = (Clock if session.device.type == "cuda" else _Processor)(session.device)
    _answer(session, request, clock)
    stages = clock.read_ms()
    return _Times(sum(stages.values()) - stages.get("decode", 0.0), stages.get("prune", 0.0))


def _answer(session: Session, request: Request, clock: Clock) -> None:
    """The first token, nothing reused, under another clock."""
    with session.engine.instrumented(clock=clock):
        session.answer([request], lambda *_: None, batch_size=1, reuse=False)


def _decoded(request: Request) -> Request:
    """The request for one token, its pictures in memory."""
    frames = request.media()
    return replace(request, media=lambda: frames, max_new_tokens=1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Two threads of which others take one wait for each other: on a busy machine that is three times the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
