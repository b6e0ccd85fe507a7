"""What is known before any cluster is asked; the cells themselves are run in test_end_to_end.py."""

from __future__ import annotations

import os
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.core.errors import ConfigError
from meteor_bench.runs.sweep.ray_backend import on_ray

RUNS = SweepConfig(methods=("fastv",), ratios=(0.5,), engine="ray")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of each `ray.init`; the cluster then refuses."""
    calls: list[dict[str, Any]] = []

    def init(**arguments: Any) -> None:
        calls.append(arguments)
        raise ConnectionError("nobody\nhere")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return calls


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_an_address_where_nobody_listens_is_one_line(started: list[dict[str, Any]]) -> None:
    address = f"127.0.0.1:{closed_port()}"
    with pytest.raises(ConfigError, match=f"no Ray cluster at '{address}': .*refused"):
        next(on_ray(SweepConfig(**{**vars(RUNS), "address": address}), []))
    assert started == [], "Ray itself would try for minutes"


def test_without_an_address_a_local_cluster_is_asked_for_quietly(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no Ray cluster at 'local': nobody here"):
        next(on_ray(RUNS, []))
    assert started[0]["address"] == "local" and started[0]["include_dashboard"] is False
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ConfigError, match="at 'auto'"):
        next(on_ray(RUNS, []))


def test_a_single_gpu_cannot_be_named(started: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="device 'cuda:1': Ray gives each cell its GPU; say cuda"):
        next(on_ray(SweepConfig(**{**vars(RUNS), "device": "cuda:1"}), []))
