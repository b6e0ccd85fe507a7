"""From a ratio of a measure to a budget of tokens; no method knows of it.

A method that ends every sample with its budget, and whose measure is the same for all calibration samples of a shape,
is resolved sample by sample: for each shape of sample (for FLOPs also each length of question) the count of final
tokens is searched whose measure is nearest to the target (`core.search`), each count measured by a pass of one sample
(`engine.gauge`). Of every other method the measure of all calibration samples together is brought as near to the target
as whole tokens allow, its constants measured anew at each count that is tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from threading import RLock
from typing import Any

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError
from meteor_bench.core.match import MEASURES, OF, WORDS, Measure, left, realised
from meteor_bench.core.request import Answer, Request
from meteor_bench.core.search import Found, nearest, nearest_from
from meteor_bench.engine.gauge import Gauge, Shape

__all__ = ["Calibrated", "Resolver", "counted_alike", "short"]

OF_QUESTION = ("prune", "prefill", "decode")  # stages whose FLOPs depend on the question's length
Kept = Mapping[Measure, float]
"""Measure -> the share that is left."""


class Resolver:
    """Budgets of an exact method, shape by shape. Several threads may ask.

    Args:
        gauge: measures a sample at a budget.
        title: of the method on its model, for messages.
    """

    def __init__(self, gauge: Gauge, measure: Measure, ratio: float, title: str) -> None:
        self._gauge, self._measure, self._ratio, self._title = gauge, measure, ratio, title
        self._lock = RLock()
        self._found: dict[tuple[Shape, int], TokenBudget] = {}

    def budget(self, shape: Shape, question: int) -> TokenBudget:
        """For samples of a shape.

        Args:
            question: tokens behind the picture.

        Raises:
            BudgetError: the target is out of reach; names what is within it.
        """
        key = shape, question if self._measure == "flops" else 0
        with self._lock:
            if key not in self._found:
                self._found[key] = self._searched(shape, question)
            return self._found[key]

    def _searched(self, shape: Shape, question: int) -> TokenBudget:
        most = self._gauge.most(shape)

        @cache
        def kept(count: int) -> Kept | None:
            try:
                parts = self._gauge.measured(shape, _budget(count, most), question)
            except BudgetError:
                return None
            return {measure: part.kept / part.whole for measure, part in parts.items()}

        return _budget(searched(kept, most, self._measure, self._ratio, self._title).tokens, most)


class Calibrated:
    """The budget of any other method, on the calibration samples together.

    Args:
        answered: (budget, every) -> answers of all or each second, third, ... calibration sample, the method's
            constants measured on the same ones at that budget.
        every: of the samples one in so many tells where to look; 1: there are too few for that, all are looked at.
        most: largest N of the samples.
        title: as for `Resolver`.
    """

    def __init__(
        self,
        answered: Callable[[TokenBudget, int], Sequence[Answer]],
        every: int,
        most: int,
        measure: Measure,
        ratio: float,
        title: str,
    ) -> None:
        self._answered, self._every, self._most = answered, every, most
        self._measure, self._ratio, self._title = measure, ratio, title

    def budget(self) -> tuple[TokenBudget, dict[str, Any]]:
        """The budget, and what its search found, for records.

        A part of the samples tells where to look, all of them what is nearest.

        Raises:
            BudgetError: the target is out of reach; names what is within it.
        """

        @cache
        def kept(count: int, every: int) -> Kept | None:
            try:
                answers = self._answered(_budget(count, self._most), every)
            except BudgetError:
                return None
            removed = realised([left(answer.tokens, answer.flops) for answer in answers])
            return {measure: 1 - ratio for measure, ratio in removed.items()}

        def of_all(count: int) -> float | None:
            found = kept(count, 1)
            return None if found is None else found[self._measure]

        near = searched(lambda count: kept(count, self._every), self._most, self._measure, self._ratio, self._title)
        found = nearest_from(near.tokens, of_all, self._most, 1 - self._ratio)
        if found is None:
            raise BudgetError(f"{self._title} cannot keep {near.tokens} tokens of all calibration samples")
        budget = _budget(found.tokens, self._most)
        return budget, {"ratio of": self._measure, "keep": budget.keep, "calibrated": 1 - found.value}


def searched(kept: Callable[[int], Kept | None], most: int, measure: Measure, ratio: float, title: str) -> Found:
    """The count of final tokens at which a measure is reduced by the ratio.

    Raises:
        BudgetError: there is none.
    """

    def value(count: int) -> float | None:
        found = kept(count)
        return None if found is None else found[measure]

    found = nearest(value, most, 1 - ratio)
    if found is not None and found.reached:
        return found
    if found is None:
        raise BudgetError(f"{title} cannot keep all {most} tokens, where the search for its budget begins")
    ends = [end for end in (kept(most), kept(_smallest(kept, most))) if end is not None]
    within = ", ".join(f"{OF[m]} {_nearest([end[m] for end in ends], ratio)}" for m in MEASURES)
    raise BudgetError(
        f"{title} cannot remove {ratio:g} of the {WORDS[measure]}; nearest ratios within its reach: {within}"
    )


def _smallest(kept: Callable[[int], Kept | None], most: int) -> int:
    """The smallest count that the method can keep."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2 if low else 1
        low, high = (middle, high) if kept(middle) is None else (low, middle)
    return high


def _nearest(shares: Sequence[float], ratio: float) -> str:
    """The ratio itself where it is between the ends, else the end; rounded to the inside."""
    low, high = 1 - max(shares), 1 - min(shares)
    if ratio > high:
        return f"{math.floor(high * 1e4 + 1e-6) / 1e4:g}"
    return f"{math.ceil(low * 1e4 - 1e-6) / 1e4:g}" if ratio < low else f"{ratio:g}"


def _budget(count: int, most: int) -> TokenBudget:
    return TokenBudget(count / most)


def short(request: Request) -> Request:
    """The same request, one token long: all that is measured happens before the second."""
    return Request(request.key, request.media_key, request.media, request.question, 1)


def counted_alike(answers: Iterable[tuple[Shape, Answer]], measure: Measure) -> bool:
    """Whether a measure is the same for all samples of a shape, questions' lengths aside."""
    alike: dict[Shape, set[tuple[float, ...]]] = {}
    for shape, answer in answers:
        tokens = answer.tokens
        found = [tokens[{"layer-mean": "layer_mean", "kv": "kv_mean"}.get(measure, "final")]]
        if measure == "flops":
            found += [tokens["layer_mean"], *(n for stage, n in answer.flops.items() if stage not in OF_QUESTION)]
        alike.setdefault(shape, set()).add(tuple(found))
    return all(len(kinds) == 1 for kinds in alike.values())
