"""uniform: strided positions before the language model. A control: the deterministic sibling of `random`.

Of n tokens in raster order the places floor((i + 1/2)·n/T), i < T, stay: the middle of each of T equal runs.

Deviations: on an independent fusion the budget is split between the encoders in proportion to their token counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import Decision, Fact, FusePoint, FuseView, Points, Pruner
from meteor_bench.methods.shared.helpers import per_tower, strided

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["Uniform"]


@dataclass(frozen=True)
class Uniform(Pruner):
    """Strided, positions kept."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control", stages=("fuse",))

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before the language model."""
        return Points(fuse=FusePoint())

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Strided tokens of each sequence."""
        return per_tower(views, self._choose)

    def _choose(self, view: FuseView, share: Tensor) -> Decision:
        return Decision(keep=strided(view.tokens.visual, share))
