"""How many tokens each merge layer of an encoder removes, so that a target is met. Arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = ["SCHEDULES", "Plan", "plan", "smallest"]

SCHEDULES = ("skip", "mean", "first", "last", "increasing", "decreasing")


class Plan(NamedTuple):
    """What a tower does to reach a target.

    Attributes:
        counts: token count wanted after each layer of the tower's list; -1 where the layer merges nothing.
        last: index of the last layer that merges, -1 if none does.
        reached: tokens left after it if no edge is short.
    """

    counts: tuple[int, ...]
    last: int
    reached: int


@lru_cache(maxsize=1024)
def plan(schedule: str, blocks: tuple[int, ...], stops: tuple[int, ...], n: int, target: int) -> Plan:
    """Token counts that bring a tower from n to ``target``, or as near as it gets.

    Args:
        blocks: the schedule's own merge layers.
        stops: layers where the method is asked: ``blocks``, or with spare ones in between.
    """
    spare = [stop for stop in stops if stop not in blocks]
    counts: list[int] = []
    used: list[int] = []
    for extra in range(len(spare) + 1):
        used = sorted([*blocks, *spare[:extra]])
        counts = _simulate(schedule, len(used), n, target)
        if counts[-1] <= target:
            break
    by_layer = dict(zip(used, counts, strict=True))
    return Plan(tuple(by_layer.get(stop, -1) for stop in stops), stops.index(used[-1]), counts[-1])


def _simulate(schedule: str, layers: int, n: int, target: int) -> list[int]:
    """Counts after each of the merge layers when no edge is short."""
    weights: Sequence[int] = {"increasing": range(1, layers + 1), "decreasing": range(layers, 0, -1)}.get(
        schedule, [1] * layers
    )
    total, done, left, counts = sum(weights), 0, n, []
    for weight in weights:
        done += weight
        wanted = n - (2 * (n - target) * done + total) // (2 * total)  # removed so far, rounded half up
        left -= max(0, min(left - wanted, left // 2))
        counts.append(left)
    return counts


def smallest(schedule: str, blocks: tuple[int, ...], n: int) -> int:
    """The smallest target that a schedule can reach."""
    return next(target for target in range(1, n + 1) if _simulate(schedule, len(blocks), n, target)[-1] <= target)
