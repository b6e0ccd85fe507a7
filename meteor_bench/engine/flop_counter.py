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
GROUPED = torch.ops.aten._grouped_mm  # experts' matrices; torch's table has no entry for it


def _grouped_flops(a: torch.Size, b: torch.Size, *args: Any, **kwargs: Any) -> int:
    """Rows [S, K], each times the matrix of its group [G, K, N]: each row meets one."""
    return 2 * a[-2] * a[-1] * b[-1]


class FlopMeter(Clock):
    """A clock whose hands are torch's FLOP counter. Use as a context manager around the work.

    Every thread counts for itself. Products of experts are added to what torch counts where its table has no entry for
    them. With a torch whose table has none for the CPU's fused attention the plain kernel takes its place meanwhile, in
    all threads.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        missing = {} if GROUPED in flop_registry else {GROUPED: _grouped_flops}
        self._counter: Any = FlopCounterMode(display=False, custom_mapping=missing)
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
