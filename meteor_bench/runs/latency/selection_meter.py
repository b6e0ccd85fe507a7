"""A method's own decisions, timed apart from the engine around them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.clock import Clock
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Decision, Pruner
from meteor_bench.core.request import Request
from meteor_bench.core.tokens import Grid
from meteor_bench.core.view import DecodeView, EncodeView, FuseView
from meteor_bench.engine.calibrate import calibrate
from meteor_bench.engine.session import Session
from meteor_bench.engine.static_first import Batch, first

__all__ = ["Choice", "Contender", "Meter"]

T = TypeVar("T")


class Meter:
    """Adds up time that a device is kept busy for.

    Attributes:
        wall_ms: on the clock.
        cpu_ms: processor time, all threads together; wall time where the work is not done by the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall_ms = self.cpu_ms = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the block."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._wait()
            spent = (time.perf_counter() - wall) * 1e3
            self.wall_ms += spent
            self.cpu_ms += (time.process_time() - cpu) * 1e3 if self.device.type == "cpu" else spent

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class _Watched(Pruner):
    """A method whose decisions are timed; the engine asks it where it would ask the method."""

    inner: Pruner
    meter: Meter

    def input_grid(self, vlm: VLM, budget: TokenBudget, grid: Grid) -> Grid | None:
        return self._time(lambda: self.inner.input_grid(vlm, budget, grid))

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        return self._time(lambda: self.inner.encode(views))

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        return self._time(lambda: self.inner.fuse(views))

    def decode(self, view: DecodeView) -> Decision:
        return self._time(lambda: self.inner.decode(view))

    def _time(self, hook: Callable[[], T]) -> T:
        with self.meter.running():
            return hook()


@dataclass(frozen=True)
class Choice:
    """One pass.

    Attributes:
        decide_ms, decide_cpu_ms: the method's decisions, see `Meter`.
        around_ms: the rest of what counts as pruning.
        kept: tokens after the last pruning point, of each sample.
    """

    decide_ms: float
    decide_cpu_ms: float
    around_ms: float
    kept: tuple[int, ...]


class Contender:
    """A method on a model, run up to the language model's last layer.

    Args:
        requests: one batch; an adaptive method is calibrated on it.

    Raises:
        MeteorBenchError: the method cannot run on this model at this budget.
    """

    def __init__(self, vlm: VLM, pruner: Pruner, budget: TokenBudget, requests: Sequence[Request]) -> None:
        facts = calibrate(vlm, pruner, budget, requests) if pruner.needs_calibration else {}
        self.session = Session(vlm, pruner, budget, facts=facts)
        self._asked = self.session.engine.pruner
        pixels = torch.stack([vlm.processor.pixels(request.media()) for request in requests])
        self._batch = Batch(
            pixels.to(vlm.device, vlm.dtype),
            tuple(request.media_key for request in requests),
            [vlm.processor.prompt(request.question) for request in requests],
        )

    @torch.inference_mode()
    def choose(self) -> Choice:
        """One pass over the batch."""
        engine, meter = self.session.engine, Meter(self.session.device)
        clock = Clock(self.session.device)
        with engine.instrumented(pruner=_Watched(self._asked, meter), clock=clock):
            start = first(engine, self._batch, 1)
        pruning = clock.read_ms().get("prune", 0.0)
        kept = tuple(trace.final for trace in start.traces)
        return Choice(meter.wall_ms, meter.cpu_ms, max(0.0, pruning - meter.wall_ms), kept)
