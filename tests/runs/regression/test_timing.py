"""The timer on sessions whose times are made up: slow phases of the machine are not slow methods."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from meteor_bench.core.request import Request
from meteor_bench.runs.regression import timing

REQUESTS = [Request(f"a/{i}", f"m{i}", list, "?", 5) for i in range(4)]


def timer(monkeypatch: pytest.MonkeyPatch, machine: Iterator[float], selection: float) -> timing.Timer:
    """Reference 20 ms; the method 10 ms and its selection; each times what the machine is slowed down by."""

    def times(session: Any, request: Request) -> tuple[float, float]:
        slow = next(machine)
        assert request.max_new_tokens == 1
        return (20 * slow, 0.0) if session.name == "unpruned" else ((10 + selection) * slow, selection * slow)

    monkeypatch.setattr(timing, "_times", times)
    return timing.Timer(SimpleNamespace(name="run"), SimpleNamespace(name="unpruned"), REQUESTS)  # type: ignore[arg-type]


def test_on_an_idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = timer(monkeypatch, iter([1.0] * 100), selection=4).measure(3)
    assert (ratios.selection, ratios.ttft) == pytest.approx((0.2, 0.7))


@pytest.mark.parametrize("phase", [1, 3, 8, 24])
def test_slow_phases_do_not_raise_it(monkeypatch: pytest.MonkeyPatch, phase: int) -> None:
    """The machine is three times slower in every other phase of that many requests."""
    machine = (3.0 if (at // phase) % 2 else 1.0 for at in range(1000))
    ratios = timer(monkeypatch, machine, selection=4).measure(12)
    assert ratios.selection <= 0.2 + 1e-9 and ratios.ttft <= 0.7 + 1e-9


def test_twice_the_selection_is_twice_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where slow phases last longer than a pair of requests."""
    machine = (3.0 if (at // 8) % 2 else 1.0 for at in range(1000))
    assert timer(monkeypatch, machine, selection=8).measure(12).selection == pytest.approx(0.4)


def test_rounds_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet moment later on is enough."""
    unlucky = ([1.0, 3.0] * 4 + [3.0, 1.0] * 4) * 2  # the two are asked in turns first
    machine = iter([*unlucky, *([1.0] * 200)])
    watch = timer(monkeypatch, machine, selection=4)
    assert watch.measure(4).ttft == pytest.approx(2.1) and watch.measure(8).ttft == pytest.approx(0.7)
