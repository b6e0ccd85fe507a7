"""What a GPU would be sent and waited for: a clock that counts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch

from meteor_bench.core.clock import Clock

__all__ = ["Ledger"]

# Files that only pass operations on.
PASSING = ("latency/ledger.py", "latency/pretend_device.py", "core/fused.py")


class Ledger(Clock):
    """A clock that counts instead: kernels and waits of each stage, and where in the package they come from.

    Attributes:
        kernels, waits: stage -> count; what belongs to no stage stands under "".
        copies: stage -> copies of the host's memory to the GPU, whether waited for or not.
        sites: (stage, what, file and line) -> count; what is an operation, the kind of a wait, or a copy.
        mixed: (operation, file and line) -> count, of those whose arguments lie on different devices.
    """

    def __init__(self) -> None:
        super().__init__(torch.device("cuda", 0))
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.sites: Counter[tuple[str, str, str]] = Counter()
        self.mixed: Counter[tuple[str, str]] = Counter()
        self._stages = [""]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count under ``name`` what happens in the block."""
        self._stages.append(name)
        try:
            yield
        finally:
            self._stages.pop()

    def read_ms(self) -> dict[str, float]:
        """Nothing is timed."""
        return {}

    def launched(self, operation: str, count: int) -> None:
        """Note kernels of an operation."""
        self.kernels[self._stages[-1]] += count
        self.sites[self._stages[-1], operation, _site()] += count

    def waited(self, kind: str) -> None:
        """Note a wait."""
        self.waits[self._stages[-1]] += 1
        self.sites[self._stages[-1], f"wait: {kind}", _site()] += 1

    def copied(self) -> None:
        """Note a copy of the host's memory."""
        self.copies[self._stages[-1]] += 1
        self.sites[self._stages[-1], "copy to the GPU", _site()] += 1

    def met(self, operation: str) -> None:
        """Note an operation on tensors of different devices."""
        self.mixed[operation, _site()] += 1


def _site() -> str:
    """File and line of the innermost frame in this package that is not in `PASSING`; else of a library, not torch's."""
    frame = sys._getframe(2)
    library = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if "/meteor_bench/" in file and not file.endswith(PASSING):
            return f"{file.rsplit('/meteor_bench/', 1)[1]}:{frame.f_lineno}"
        if not library and "site-packages" in file and "/torch/" not in file:
            library = f"{file.rsplit('site-packages/', 1)[1]}:{frame.f_lineno}"
        frame = cast("Any", frame.f_back)
    return library
