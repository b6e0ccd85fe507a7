"""Successive halving: all candidates on few questions, the better half on twice as many, and so on to all of them.

K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016,
with two changes: a candidate that misses the goal even at the better end of its interval leaves at once, and where
none of the last ones qualifies, those that left for want of promise come back, the latest and best first. So a
candidate is missed only where its promise on few questions was worse than that of half of the others while another
one qualified, or where its interval did not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from meteor_bench.report.standing import Standing
from meteor_bench.runs.choose.goal import Goal

__all__ = ["FINALISTS", "Found", "search", "sizes"]

FINALISTS = 3  # as few go straight to all questions
SMALLEST = 16  # questions of a benchmark, below which nothing can be told apart
ROUNDS = 4

C = TypeVar("C", bound=Hashable)
# (candidates, questions per benchmark) -> standings of those that could be measured.
Measure = Callable[[Sequence[C], int], Mapping[C, Standing]]


@dataclass(frozen=True)
class Found(Generic[C]):
    """What a search came to.

    Attributes:
        whole: those that were measured on all questions.
        left: the others, as they stood when they left.
        chosen: the best of those that qualify; None where none does.
    """

    whole: Mapping[C, Standing]
    left: Mapping[C, Standing]
    chosen: C | None


def sizes(questions: int) -> list[int]:
    """Questions per benchmark of each round, each twice the one before, the last all of them."""
    found = [math.ceil(questions / 2**back) for back in reversed(range(ROUNDS))]
    return [size for size in dict.fromkeys(found) if size >= SMALLEST or size == questions]


def search(candidates: Sequence[C], questions: int, goal: Goal, measure: Measure[C]) -> Found[C]:
    """The best candidate for a goal.

    Args:
        questions: of a benchmark, in all.
        measure: asked for the candidates of a round; one that it leaves out has failed and is out.
    """
    alive = list(candidates)
    left: dict[C, Standing] = {}
    waiting: list[C] = []  # left for want of promise; the best of the latest round first
    for size in sizes(questions)[:-1]:
        if len(alive) <= FINALISTS:
            break
        standing = measure(alive, size)
        left.update({one: standing[one] for one in alive if one in standing})
        hopeful = [one for one in alive if one in standing and not goal.hopeless(standing[one])]
        ranked = sorted(hopeful, key=lambda one: goal.promise(standing[one]))
        keep = max(FINALISTS, math.ceil(len(alive) / 2))
        alive, waiting = ranked[:keep], ranked[keep:] + waiting
    whole = dict(measure(alive, questions)) if alive else {}
    while waiting and not any(map(goal.qualifies, whole.values())):
        again, waiting = waiting[:FINALISTS], waiting[FINALISTS:]
        whole.update(measure(again, questions))
    good = [one for one, standing in whole.items() if goal.qualifies(standing)]
    chosen = min(good, key=lambda one: goal.merit(whole[one]), default=None)
    return Found(whole, {one: standing for one, standing in left.items() if one not in whole}, chosen)
