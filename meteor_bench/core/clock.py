"""Stage timing: CUDA events on a GPU (no synchronisation inside a stage), a monotonic clock on a CPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Clock"]

Mark = Any  # seconds as a float, or a CUDA event


class Clock(threading.local):
    """Adds up the time of named stages. A stage inside another is counted once, under its own name.

    Every thread has stages of its own.

    Args:
        device: where the work runs.
        enabled: when False, `stage` costs nothing and nothing is recorded.
    """

    def __init__(self, device: torch.device, enabled: bool = True) -> None:
        self.device, self.enabled = device, enabled
        self._open: list[str] = []
        self._since: Mark = 0.0
        self._spans: list[tuple[str, Mark, Mark]] = []

    def _now(self) -> Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))  # whichever device is the current one
        return event

    def _switch(self) -> None:
        """End the span of the innermost open stage and begin the next one."""
        now = self._now()
        if self._open:
            self._spans.append((self._open[-1], self._since, now))
        self._since = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under ``name``; the same name adds up."""
        if not self.enabled:
            yield
            return
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def read_ms(self) -> dict[str, float]:
        """Milliseconds per stage since the last reading; waits for a GPU to finish, then starts afresh."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        totals: dict[str, float] = {}
        for name, start, end in self._spans:
            if isinstance(start, torch.cuda.Event):
                ms = start.elapsed_time(end)
            else:
                ms = (end - start) * 1e3
            totals[name] = totals.get(name, 0.0) + ms
        self._spans = []
        return totals
