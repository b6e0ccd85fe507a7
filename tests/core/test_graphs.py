"""Capturing a step: what is run, what is captured, what is replayed. CUDA itself is played by stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from meteor_bench.core.graphs import CudaGraphs, Graphs, _pool, graphs_for
from meteor_bench.core.sent import Sent


def test_a_cpu_captures_nothing() -> None:
    calls: list[int] = []
    run = graphs_for(torch.device("cpu")).runner(lambda: calls.append(1))
    run(), run()
    assert calls == [1, 1] and type(graphs_for(torch.device("cpu"))) is Graphs
    assert type(graphs_for(torch.device("cuda", 0))) is CudaGraphs


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done to the stand-ins for CUDA."""
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
    def capture(graph: Graph, pool: str, capture_error_mode: str) -> Any:
        told.append(f"capture {pool} {capture_error_mode}")
        yield
        told.append("captured")

    for name, value in (
        ("Stream", Stream),
        ("CUDAGraph", Graph),
        ("graph", capture),
        ("current_stream", Stream),
        ("stream", nullcontext),
        ("device", nullcontext),
        ("graph_pool_handle", lambda: "shared"),
        ("get_sync_debug_mode", lambda: 0),
        ("set_sync_debug_mode", lambda mode: told.append(f"waits: {mode}")),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    _pool.cache_clear()
    yield told
    _pool.cache_clear()


def test_the_first_call_runs_a_step_and_the_others_replay_it(told: list[str]) -> None:
    run = CudaGraphs(torch.device("cuda", 0)).runner(lambda: told.append("step"))
    run()
    assert told == ["wait", "step", "wait", "capture shared thread_local", "step", "captured"]
    run(), run()
    assert told[6:] == ["replay", "replay"]


def test_a_pass_is_captured_after_a_run_that_may_not_wait(told: list[str]) -> None:
    run = CudaGraphs(torch.device("cuda", 0)).result(Sent(), lambda: told.append("pass") or len(told))
    assert told[:4] == ["wait", "pass", "pass", "waits: error"]
    assert told[4:] == ["pass", "waits: 0", "wait", "capture shared thread_local", "pass", "captured"]
    assert run() == run() == 9 and told[10:] == ["replay", "replay"]  # what the captured pass gave


def test_a_pass_that_waits_is_not_captured(told: list[str]) -> None:
    def wait() -> None:
        told.append("pass")
        if told[-2] == "waits: error":
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        CudaGraphs(torch.device("cuda", 0)).result(Sent(), wait)
    assert told[-3:] == ["pass", "waits: 0", "wait"]  # torch's own setting is back, and the stream is waited for
