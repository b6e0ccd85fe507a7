"""Capturing a step: what is run, what is captured, what is replayed. CUDA itself is played by stand-ins."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from meteor_bench.core.graphs import CudaGraphs, Graphs, graphs_for


def test_a_cpu_captures_nothing() -> None:
    calls: list[int] = []
    run = graphs_for(torch.device("cpu")).runner(lambda: calls.append(1))
    run(), run()
    assert calls == [1, 1] and type(graphs_for(torch.device("cpu"))) is Graphs
    assert type(graphs_for(torch.device("cuda", 0))) is CudaGraphs


def test_the_first_call_runs_and_the_others_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Stream:
        def __init__(self, *_: Any) -> None:
            pass

        def wait_stream(self, _: Any) -> None:
            told.append("wait")

    class Graph:
        def replay(self) -> None:
            told.append("replay")

    @contextmanager
    def capture(graph: Graph) -> Any:
        told.append("capture")
        yield
        told.append("captured")

    for name, value in (
        ("Stream", Stream),
        ("CUDAGraph", Graph),
        ("graph", capture),
        ("current_stream", Stream),
        ("stream", nullcontext),
        ("device", nullcontext),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    run = CudaGraphs(torch.device("cuda", 0)).runner(lambda: told.append("step"))
    run()
    assert told == ["wait", "step", "wait", "capture", "step", "captured"]
    run(), run()
    assert told[6:] == ["replay", "replay"]
