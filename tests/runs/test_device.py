"""The right card, as far as that can be told without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meteor_bench.core.clock import Clock
from meteor_bench.core.errors import ConfigError
from meteor_bench.runs.device import own_device
from meteor_bench.utils import hardware


@pytest.fixture
def one_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.delenv("SLURM_PROCID", raising=False)


@pytest.mark.usefixtures("one_card")
def test_a_task_that_sees_its_own_card_alone_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("SLURM_PROCID", "5")
    assert own_device("cuda", 3) == "cuda:0"


@pytest.mark.usefixtures("one_card")
def test_two_processes_do_not_share_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert own_device("cuda", 0) == "cuda:0"
    with pytest.raises(ConfigError, match="there are 1"):
        own_device("cuda", 1)


def test_the_driver_is_asked_by_the_cards_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command[-1])
        return SimpleNamespace(stdout="")

    monkeypatch.setattr(hardware.subprocess, "run", run)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"abc-{device.index}"))
    hardware.state(torch.device("cuda", 1))
    assert asked == ["--id=GPU-abc-1"] * 2


def test_events_are_recorded_on_the_clocks_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Any] = []
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: SimpleNamespace(record=recorded.append))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    with Clock(torch.device("cuda", 1)).stage("x"):
        pass
    assert recorded == ["stream of cuda:1"] * 2
