import time

import torch

from meteor_bench.core.clock import Clock
from meteor_bench.core.count import FlopMeter


def test_inner_stages_are_taken_out_of_outer_ones() -> None:
    clock = Clock(torch.device("cpu"))
    with clock.stage("outer"):
        time.sleep(0.02)
        with clock.stage("inner"):
            time.sleep(0.05)
        time.sleep(0.02)
    with clock.stage("inner"):
        time.sleep(0.01)
    read = clock.read_ms()
    assert 40 <= read["outer"] < 60
    assert 60 <= read["inner"] < 90
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
