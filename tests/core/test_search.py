"""The search against trying every count."""

from __future__ import annotations

import random

import pytest

from meteor_bench.core.search import nearest, nearest_from


def brute(values: dict[int, float | None], target: float) -> tuple[int, float]:
    """All counts tried: the nearest, of equals the one below the target; below it the most tokens, else the fewest."""
    there = [(count, value) for count, value in values.items() if value is not None]

    def order(one: tuple[int, float]) -> tuple[float, bool, int]:
        count, value = one
        return abs(value - target), value > target, count if value > target else -count

    return min(there, key=order)


def made(rng: random.Random, most: int) -> dict[int, float | None]:
    """A measure that never falls, in steps and plateaus, perhaps without its smallest counts."""
    start = rng.choice([0.0, 0.4])
    steps = [rng.choice([0, 0, 1, 1, 2, 5]) for _ in range(most)]
    total, values = sum(steps) or 1, dict[int, float | None]()
    for count in range(1, most + 1):
        values[count] = start + (1 - start) * sum(steps[:count]) / total
    for count in range(1, rng.choice([0, 0, most // 3]) + 1):
        values[count] = None
    return values


@pytest.mark.parametrize("seed", range(40))
def test_the_nearest_count_is_found(seed: int) -> None:
    rng = random.Random(seed)
    values = made(rng, rng.choice([1, 2, 7, 64, 257]))
    most, asked = max(values), list[int]()
    target = rng.uniform(0.0, 1.0)

    def measure(count: int) -> float | None:
        asked.append(count)
        return values[count]

    found = nearest(measure, most, target)
    assert found is not None
    assert (found.tokens, found.value) == brute(values, target)
    assert len(asked) == len(set(asked)) <= 24  # of 257 counts
    there = [value for value in values.values() if value is not None]
    if min(there) <= target <= max(there):
        assert found.reached
    near = nearest_from(rng.randint(1, most), lambda count: values[count], most, target)
    assert near is not None and abs(near.value - target) == pytest.approx(abs(found.value - target))


def test_a_target_beyond_half_a_token_of_the_ends_is_out_of_reach() -> None:
    share = {count: count / 10 for count in range(1, 11)}.__getitem__
    assert nearest(share, 10, 0.06) == (1, 0.1, True)
    assert nearest(share, 10, 0.04) == (1, 0.1, False)
    assert nearest(share, 10, 1.04) == (10, 1.0, True)
    assert nearest(share, 10, 1.06) == (10, 1.0, False)


def test_where_nothing_can_be_measured_nothing_is_found() -> None:
    assert nearest(lambda _: None, 4, 0.5) is None
    assert nearest_from(2, lambda _: None, 4, 0.5) is None
