"""FLOPs per stage as torch's own counter sees them, through the same stages that the clock times."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from meteor_bench.core.clock import Clock

__all__ = ["FlopMeter"]


class FlopMeter(Clock):
    """A clock whose hands are torch's FLOP counter. Use as a context manager around the work.

    On a CPU attention runs on the plain kernel meanwhile, because the fused one has no entry in torch's table.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._counter: Any = FlopCounterMode(display=False)
        self._kernel: Any = nullcontext() if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)

    def __enter__(self) -> FlopMeter:
        self._kernel.__enter__()
        self._counter.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._counter.__exit__(*error)
        self._kernel.__exit__(*error)

    def _now(self) -> int:
        return int(self._counter.get_total_flops())

    def read_flops(self) -> dict[str, int]:
        """FLOPs per stage so far."""
        totals: dict[str, int] = {}
        for name, start, end in self._spans:
            totals[name] = totals.get(name, 0) + end - start
        return totals
