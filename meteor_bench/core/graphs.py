"""Running one and the same step again and again: operation by operation, or as a CUDA graph captured once.

A step works on tensors that stay where they are, changes them in place, and asks the host nothing. `Graphs` runs it as
any code runs, which is all that a CPU can do; `CudaGraphs` runs it once, captures it, and replays what was captured,
so that the host sends one graph instead of hundreds of kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

__all__ = ["CudaGraphs", "Graphs", "graphs_for"]


class Graphs:
    """Steps that are captured by nobody.

    Attributes:
        kept: what belongs to a step (its tensors, say), by what makes it the same step again.
    """

    def __init__(self) -> None:
        self.kept: dict[Hashable, Any] = {}

    def runner(self, step: Callable[[], None]) -> Callable[[], None]:
        """What is to be called in place of a step."""
        return step


class CudaGraphs(Graphs):
    """Steps that are captured after they have run once."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def runner(self, step: Callable[[], None]) -> Callable[[], None]:
        """The first call runs the step, on a stream of its own as a capture wants it; the others replay it."""
        graph: torch.cuda.CUDAGraph | None = None

        def run() -> None:
            nonlocal graph
            if graph is not None:
                graph.replay()
                return
            here = torch.cuda.current_stream(self.device)
            aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                step()
            here.wait_stream(aside)
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.device(self.device), torch.cuda.graph(captured):  # nothing is run by this
                step()
            graph = captured

        return run


def graphs_for(device: torch.device) -> Graphs:
    """Captured on a GPU, plain elsewhere."""
    return CudaGraphs(device) if device.type == "cuda" else Graphs()
