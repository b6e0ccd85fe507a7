"""The token count whose measure is nearest to a target: search over whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Found", "nearest", "nearest_from"]


class Found(NamedTuple):
    """What a search came to.

    Attributes:
        tokens: the count.
        value: its measure.
        reached: whether the target lies between what the smallest and the largest count have, or within half a token
            of it.
    """

    tokens: int
    value: float
    reached: bool


def nearest(measure: Callable[[int], float | None], most: int, target: float) -> Found | None:
    """The count from 1 to ``most`` whose measure is nearest to the target; of two equally near the one below it.

    The measure must not fall where the count grows. Of counts with the same measure the largest is taken below the
    target, and the smallest above it. The count is found between the largest that is not above the target and the one
    behind it, by interpolation (measures are nearly straight lines), with halving as soon as that gains too little.

    Args:
        measure: of a count, asked once for each; None where there is none because the count is too small.
        target: what to come near to.

    Returns:
        None where no count has a measure.
    """
    known: dict[int, float | None] = {}

    def at(count: int) -> float | None:
        if count not in known:
            known[count] = measure(count)
        return known[count]

    top = at(most)
    if top is None:
        return None
    if top <= target:
        before = at(most - 1) if most > 1 and top < target else top
        return Found(most, top, top == target or (before is not None and target - top <= (top - before) / 2))
    low, high = 0, most  # at high the measure is above the target; at low it is not, or there is none
    slow = 0
    while high - low > 1:
        below, above = known.get(low), known[high]
        if low == 0:
            guess = 1
        elif below is None or above is None or above <= below or slow > 1:
            guess = (low + high) // 2
        else:
            guess = min(high - 1, max(low + 1, low + round((target - below) / (above - below) * (high - low))))
        value = at(guess)
        gap = high - low
        if value is not None and value > target:
            high = guess
        else:
            low = guess
        slow = slow + 1 if (high - low) * 2 > gap else 0
    above, below = known[high], known.get(low)
    assert above is not None  # the search keeps it so
    if below is not None:
        return Found(low, below, True) if target - below <= above - target else Found(high, above, True)
    behind = at(high + 1) if high < most else above
    return Found(high, above, behind is not None and above - target <= (behind - above) / 2)


def nearest_from(start: int, measure: Callable[[int], float | None], most: int, target: float) -> Found | None:
    """The same, searched around a count that is thought to be near, for a measure that is dear to take.

    Counts are tried step by step until the target lies between two neighbours.
    """
    at, low, high = start, (0, -1.0), (most + 1, 2.0)  # counts with their measures, not above and above the target
    while high[0] - low[0] > 1:
        value = measure(at)
        if value is None or value <= target:
            low = at, -1.0 if value is None else value
        else:
            high = at, value
        step = 1 if value is None else max(1, round(abs(target - value) * most))
        at = min(high[0] - 1, low[0] + step) if low[0] == at else max(low[0] + 1, high[0] - step)
    ends = [end for end in (low, high) if 0 < end[0] <= most and end[1] >= 0]
    if not ends:
        return None
    count, value = min(ends, key=lambda end: (abs(end[1] - target), end[1] > target))
    return Found(count, value, True)
