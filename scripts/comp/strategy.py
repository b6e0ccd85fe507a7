"""CoMP's choice of what to prune next (its MPS): the mode that has cost least, with exploration and memory.

Formulas and constants as in the notes that `scripts.comp.importance` names. Open there and decided here: every mode is
taken once, in its order, before costs are compared; with exploration alone the modes are equally likely; a mode that
has nothing left is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Strategy", "smoothing"]


def smoothing(interval: int, start: float, longest: int) -> float:
    """Lambda: how much of an earlier cost stays after that many stages without the mode (1: it was the last one)."""
    return max(start - start / longest * (interval - 1), 0.0)


@dataclass
class Strategy:
    """What has been paid so far, and the choice; rho, tau, lambda0 and longest as published.

    Attributes:
        explore: whether a mode is drawn now and then instead of the cheapest (RE).
        history: whether neglected modes are drawn more often and costs are smoothed (HI).
        fixed: take the modes in turn and look at no cost.
    """

    modes: Sequence[str]
    seed: int = 0
    explore: bool = True
    history: bool = True
    fixed: bool = False
    rho: float = 0.2
    tau: float = 5.0
    lambda0: float = 0.4
    longest: int = 5
    costs: dict[str, float] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    stage: int = 0

    def odds(self, open_: Sequence[str]) -> np.ndarray:
        """Probabilities of the modes when one is drawn."""
        waited = np.array([self.stage - self.last[mode] for mode in open_], float)
        exponent = np.exp((waited - waited.max()) / self.tau) if self.history else np.ones(len(open_))
        return exponent / exponent.sum()

    def choose(self, open_: Sequence[str]) -> str:
        """Of the modes that have something left, the next."""
        if self.fixed:
            start = self.stage % len(self.modes)
            turn = [*self.modes[start:], *self.modes[:start]]
            return next(mode for mode in turn if mode in open_)
        if fresh := [mode for mode in open_ if mode not in self.costs]:
            return fresh[0]
        rng = np.random.default_rng([self.seed, self.stage])
        if self.explore and rng.random() < self.rho:
            return str(rng.choice(list(open_), p=self.odds(open_)))
        return min(open_, key=self.costs.__getitem__)

    def update(self, mode: str, cost: float) -> None:
        """Take what a stage of a mode cost: accuracy lost for each share of FLOPs."""
        if self.history and mode in self.costs:
            kept = smoothing(self.stage - self.last[mode], self.lambda0, self.longest)
            cost = kept * self.costs[mode] + (1 - kept) * cost
        self.costs[mode], self.last[mode] = cost, self.stage
        self.stage += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"costs": self.costs, "last": self.last, "stage": self.stage}
