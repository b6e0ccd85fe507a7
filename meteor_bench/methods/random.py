"""random: a uniformly random subset of the tokens that enter the language model. A control: methods that lose to it
add nothing.

Each sample's subset depends on the run's seed and the sample alone. Report it as mean ± sd over seeds.

Deviations: on an independent fusion the budget is split between the encoders in proportion to their token counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import Decision, Fact, FusePoint, FuseView, Points, Pruner, keep_top
from meteor_bench.methods.shared.helpers import noise, per_tower

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["Random"]


@dataclass(frozen=True)
class Random(Pruner):
    """Uniform without replacement, positions kept."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control", stages=("fuse",))

    @property
    def draws(self) -> bool:
        """All that it does."""
        return True

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before the language model."""
        return Points(fuse=FusePoint())

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """The k highest of as many random numbers."""
        return per_tower(views, self._choose)

    def _choose(self, view: FuseView, share: Tensor) -> Decision:
        score = noise(view)
        return Decision(keep=keep_top(score, share, view.tokens.visual), score=score)
