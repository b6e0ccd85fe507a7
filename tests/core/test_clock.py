import pytest
import torch

from meteor_bench.core import clock as clock_module
from meteor_bench.core.clock import Clock
from meteor_bench.engine.flop_counter import FlopMeter


def test_inner_stages_are_taken_out_of_outer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: now[0])

    def pass_ms(ms: float) -> None:
        now[0] += ms / 1e3

    clock = Clock(torch.device("cpu"))
    with clock.stage("outer"):
        pass_ms(20)
        with clock.stage("inner"):
            pass_ms(50)
        pass_ms(25)
    pass_ms(1000)  # between stages: nobody's
    with clock.stage("inner"):
        pass_ms(10)
    assert clock.read_ms() == {"outer": pytest.approx(45), "inner": pytest.approx(60)}
    assert clock.read_ms() == {}


def test_a_disabled_clock_records_nothing() -> None:
    clock = Clock(torch.device("cpu"), enabled=False)
    with clock.stage("any"):
        pass
    assert clock.read_ms() == {}


def test_the_meter_counts_matrix_products_by_stage() -> None:
    a, b = torch.randn(8, 16), torch.randn(16, 4)
    with FlopMeter(torch.device("cpu")) as meter:
        with meter.stage("outer"):
            a @ b
            with meter.stage("inner"):
                a @ b
                a @ b
        a @ b
    assert meter.read_flops() == {"outer": 2 * 8 * 16 * 4, "inner": 4 * 8 * 16 * 4}
