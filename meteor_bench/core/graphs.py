"""Running the same again and again: operation by operation, or as a CUDA graph captured once.

Two kinds of work. A step works on tensors that stay where they are, changes them in place and asks the host nothing
(`Graphs.runner`). A pass gives tensors that it makes, out of inputs that stay where they are, and is sent what the
host knows on the way (`Graphs.result`). `Graphs` runs both as any code runs, which is all that a CPU can do;
`CudaGraphs` runs them, captures them, and replays what was captured, so that the host sends one graph instead of
hundreds or thousands of kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch

from meteor_bench.core.sent import Sent

__all__ = ["CudaGraphs", "Graphs", "graphs_for"]

T = TypeVar("T")


class Graphs:
    """Work that is captured by nobody.

    Attributes:
        kept: what belongs to a work (its tensors, say), by what makes it the same again.
        refused: why a pass could not be captured, "" where all could.
    """

    def __init__(self) -> None:
        self.kept: dict[Hashable, Any] = {}
        self.refused = ""

    def runner(self, step: Callable[[], None]) -> Callable[[], None]:
        """What is to be called in place of a step."""
        return step

    def result(self, sent: Sent, make: Callable[[], T]) -> Callable[[], T]:
        """What is to be called in place of a pass; ``sent`` gets what it is sent.

        What comes back is overwritten by the next call.

        Raises:
            RuntimeError: it cannot be captured: it waits for the device, say, or is sent something else each time.
        """
        _prepare(sent, make)

        def run() -> T:
            with sent.repeating():
                return make()

        return run


class CudaGraphs(Graphs):
    """Work that is captured after it has run."""

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
            with self._aside():
                step()
            captured = torch.cuda.CUDAGraph()
            with self._capturing(captured):  # nothing is run by this
                step()
            graph = captured

        return run

    def result(self, sent: Sent, make: Callable[[], T]) -> Callable[[], T]:
        """As above. A wait is found by a run in which it is an error: one that is met while capturing costs more."""
        with self._aside():
            _prepare(sent, make)
            with _no_waits(), sent.repeating():
                make()
        graph = torch.cuda.CUDAGraph()
        with self._capturing(graph), sent.repeating():
            out = make()  # where the results will be

        def run() -> T:
            graph.replay()
            return out

        return run

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """The block runs on a stream of its own."""
        here = torch.cuda.current_stream(self.device)
        aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                yield
        finally:
            here.wait_stream(aside)

    @contextmanager
    def _capturing(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        """The block is captured; what other threads do meanwhile is their business."""
        pool = _pool(self.device)
        with torch.cuda.device(self.device), torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
            yield


@cache
def _pool(device: torch.device) -> Any:
    """The memory that all captures of a device share.

    Many are kept at once, and each would hold as much as a pass needs. Replayed one at a time, in whatever order, they
    may: none reads what another left, for inputs lie elsewhere and results are kept, and used before the next replay.
    """
    return torch.cuda.graph_pool_handle()


def _prepare(sent: Sent, make: Callable[[], Any]) -> None:
    """Once for what is made once (constants, kernels), and once to see what is sent each time."""
    make()
    with sent.recording():
        make()


@contextmanager
def _no_waits() -> Iterator[None]:
    """Within the block it is an error to wait for the device."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def graphs_for(device: torch.device) -> Graphs:
    """Captured on a GPU, plain elsewhere."""
    return CudaGraphs(device) if device.type == "cuda" else Graphs()
