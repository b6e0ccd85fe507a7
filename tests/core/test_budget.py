import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError


@pytest.mark.parametrize(
    ("ratio", "n", "kept"),
    [(0.0, 256, 256), (0.5, 256, 128), (0.76, 256, 61), (0.889, 256, 28), (0.944, 576, 32), (0.76, 1024, 246)],
)
def test_tokens_is_the_rounded_share(ratio: float, n: int, kept: int) -> None:
    assert TokenBudget.from_ratio(ratio).tokens(n) == kept


def test_half_tokens_go_to_the_even_neighbour_whatever_the_float_noise() -> None:
    """As `round` of the exact number: divprune's and pyramiddrop's authors keep 12 of 100 at an eighth."""
    assert TokenBudget(0.125).tokens(100) == 12
    assert TokenBudget.from_ratio(0.75).tokens(2) == 1  # 0.5, but never nothing
    for hundredths in range(1, 100):
        for n in range(1, 300):
            want = max(1, round(Fraction(100 - hundredths, 100) * n))
            assert TokenBudget.from_ratio(hundredths / 100).tokens(n) == want
    assert TokenBudget.from_ratio(0.999).tokens(256) == 1  # never nothing


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_ratio_outside_the_interval_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"outside \[0, 1\)"):
        TokenBudget.from_ratio(ratio)


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(0, 60)), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_split_is_exact_capped_and_fair(rows: list[tuple[float, int]], share: float) -> None:
    weights = {str(i): w for i, (w, _) in enumerate(rows)}
    caps = {str(i): c for i, (_, c) in enumerate(rows)}
    total = int(share * sum(caps.values()))
    out = TokenBudget.split(total, weights, caps)
    assert sum(out.values()) == total
    assert all(0 <= out[n] <= caps[n] for n in out)
    below = [n for n in out if out[n] < caps[n] and weights[n] > 0]
    for a in below:  # among those not full, a clearly larger weight never gets less
        for b in below:
            if weights[a] >= weights[b]:
                assert out[a] >= out[b] - 1


def test_split_refuses_more_than_there_is() -> None:
    with pytest.raises(ConfigError, match="cannot keep 11 of 10"):
        TokenBudget.split(11, {"a": 1.0, "b": 1.0}, {"a": 5, "b": 5})
