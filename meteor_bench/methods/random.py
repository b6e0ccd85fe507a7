"""random: a uniformly random subset of the tokens that enter the language model.

A control: methods that lose to it add nothing. Each sample's subset depends on the run's seed and the sample alone.
Report it as mean ± sd over seeds.

Deviations: on an independent fusion the budget is split between the encoders in proportion to their token counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from meteor_bench.core.pruner import Fact, FuseView
from meteor_bench.methods.shared.helpers import noise
from meteor_bench.methods.shared.scorers import FuseScorer

__all__ = ["Random"]


@dataclass(frozen=True)
class Random(FuseScorer):
    """Uniform without replacement, positions kept."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control")

    @property
    def draws(self) -> bool:
        """Every choice is drawn."""
        return True

    def score(self, view: FuseView) -> Tensor:
        """As many random numbers."""
        return noise(view)
