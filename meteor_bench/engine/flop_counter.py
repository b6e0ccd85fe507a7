"""FLOPs per stage as torch's own counter sees them, through the same stages that the clock times."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from meteor_bench.core.clock import Clock

__all__ = ["FlopMeter"]

FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class FlopMeter(Clock):
    """A clock whose hands are torch's FLOP counter. Use as a context manager around the work.

    Every thread counts for itself. With a torch whose table has no entry for the CPU's fused attention the plain kernel
    takes its place meanwhile, in all threads.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._counter: Any = FlopCounterMode(display=False)
        counted = device.type == "cuda" or FUSED in flop_registry
        self._kernel: Any = nullcontext() if counted else sdpa_kernel(SDPBackend.MATH)

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
