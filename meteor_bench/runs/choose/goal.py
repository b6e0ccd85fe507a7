"""What a choice is for: which candidates qualify, which cannot any more, and which is the better of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meteor_bench.config.choose_config import GOALS, ChooseConfig
from meteor_bench.report.standing import Standing

__all__ = ["Goal"]

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Goal:
    """A goal with its bound.

    Attributes:
        kind: "max_drop", "min_speedup" or "tokens".
        bound: points, a factor, or tokens.
    """

    kind: str
    bound: float

    @classmethod
    def of(cls, config: ChooseConfig) -> Goal:
        """The one that a user gave."""
        kind = next(name for name in GOALS if getattr(config, name) is not None)
        return cls(kind, float(getattr(config, kind)))

    @property
    def timed(self) -> bool:
        """Whether candidates must be timed."""
        return self.kind == "min_speedup"

    def qualifies(self, one: Standing) -> bool:
        """Whether it reaches the goal, at the worse end of its 95 % interval."""
        if self.kind == "max_drop":
            return -one.low <= self.bound
        return one.speedup_low >= self.bound if self.timed else one.tokens <= self.bound

    def hopeless(self, one: Standing) -> bool:
        """Whether it misses the goal even at the better end of its interval."""
        if self.kind == "max_drop":
            return -one.high > self.bound
        return one.speedup_high < self.bound if self.timed else one.tokens > self.bound

    def merit(self, one: Standing) -> Key:
        """Rising from the best of those that qualify: FLOPs where accuracy is bounded, else what is lost."""
        rest = (one.tokens, one.title)
        return (one.flops, one.drop, *rest) if self.kind == "max_drop" else (one.drop, one.flops, *rest)

    def promise(self, one: Standing) -> Key:
        """Rising from the most promising of a round: those that reach the goal as far as is known, by merit."""
        if self.kind == "max_drop":
            reached = one.drop <= self.bound
            return (not reached, *(self.merit(one) if reached else (one.drop, one.flops, one.title)))
        return (self.timed and not one.speedup >= self.bound, *self.merit(one))

    def nearest(self, every: Sequence[Standing]) -> Standing:
        """The one that misses by least."""
        return min(every, key=lambda one: (self._miss(one), self.merit(one)))

    def blurred(self, every: Sequence[Standing]) -> str:
        """That even a candidate that loses nothing would miss the bound, where the intervals are too wide for it.

        An interval without any width says nothing of the number of questions and is left out.
        """
        wide = [one for one in every if one.difference > one.low]
        if self.kind != "max_drop" or self.bound == 0 or not wide:
            return ""
        best = min(wide, key=lambda one: one.difference - one.low)
        reach = best.difference - best.low
        if reach <= self.bound:
            return ""
        needed = float(f"{best.n * (reach / self.bound) ** 2:.2g}")  # more digits would claim more than is known
        return (
            f"Too few questions for that bound: on {best.n} the narrowest interval ends {reach:.1f} points above the "
            f"loss itself, so that a candidate that loses nothing would miss {self.bound:g}, too. Intervals shrink "
            f"with the root of the number: it takes about {needed:.0f} questions."
        )

    def _miss(self, one: Standing) -> float:
        if self.kind == "max_drop":
            return -one.low
        if self.timed:
            return math.inf if math.isnan(one.speedup_low) else -one.speedup_low
        return one.tokens

    def told(self, one: Standing) -> str:
        """A candidate's number beside the bound."""
        low, high = (round(-end, 1) + 0.0 for end in (one.high, one.low))  # no -0.0
        interval = "no interval, too few pictures" if math.isnan(low) else f"95 % interval {low:.1f} to {high:.1f}"
        drop = f"it loses {round(one.drop, 1) + 0.0:.1f} points ({interval}"
        if self.kind == "max_drop":
            drop += f"; at most {self.bound:g} asked"
        speed = ""
        if self.timed:
            speed = (
                f", is {one.speedup:.2f} times as fast end to end ({one.speedup_low:.2f} to {one.speedup_high:.2f}; "
            )
            speed += f"at least {self.bound:g} asked)"
        share = f", {100 * one.flops / one.unpruned_flops:.0f} % of the FLOPs" if one.unpruned_flops else ""
        return f"{drop}){speed}, keeps {one.tokens:.0f} of {one.unpruned_tokens:.0f} visual tokens{share}"
