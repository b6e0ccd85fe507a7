"""Percentiles against NumPy, comparisons against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meteor_bench.runs.latency.summary import lines, spread
from tests.runs.latency.made import cell

TIMES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40)


@given(TIMES)
def test_percentiles_are_numpys(values: list[float]) -> None:
    found = spread(values)
    low, middle, high, p90, p99 = np.percentile(values, [25, 50, 75, 90, 99])
    assert (found.p50, found.p90, found.p99) == pytest.approx((middle, p90, p99), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.iqr == pytest.approx((high - low) / middle, rel=1e-9, abs=1e-9)
    assert found.n == len(values)


def test_a_stage_that_takes_no_time_has_no_spread() -> None:
    assert spread([0.0, 0.0]).iqr == 0.0


def test_contenders_are_compared_with_the_unpruned_model() -> None:
    plain, eager, adaptive = lines(cell())
    assert [line.row.name for line in (plain, eager, adaptive)] == ["unpruned", "eager", "adaptive"]
    assert plain.times["encode"].p50 == 30 and plain.times["encode.clip"].p50 == 20
    assert plain.faster == {"prefill": 1, "ttft": 1, "end to end": 1}
    assert eager.faster["ttft"] == 0.5 and eager.lighter == {"prefill": 1, "ttft": 1}
    # Its passes take 1, 2, 3 and 4 halves of the unpruned time: 1.25 in the middle, with half of the work.
    assert adaptive.faster["prefill"] == pytest.approx(1 / 1.25)
    assert adaptive.lighter == {"prefill": 2, "ttft": 2}
    assert adaptive.kept == (20, pytest.approx(23.75), 26)
    assert plain.work["ttft"] == pytest.approx(80) and plain.work["decode"] == pytest.approx(10)
    assert plain.gflops_per_second == pytest.approx(80 / 0.076)
    assert plain.prune_share == pytest.approx(1 / 76)
    assert plain.instrumentation == pytest.approx(99 / 90 - 1)
    assert plain.covered == pytest.approx((76 + 7 * 2) / 99)
