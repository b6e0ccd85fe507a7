"""uniform: strided positions before the language model. A control: the deterministic sibling of `random`.

Of n tokens in raster order the places floor((i + 1/2)·n/T), i < T, stay: the middle of each of T equal runs.

Deviations: on an independent fusion the budget is split between the encoders in proportion to their token counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from meteor_bench.core.pruner import Decision, Fact, FuseView
from meteor_bench.methods.shared.helpers import evenly
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["Uniform"]


@dataclass(frozen=True)
class Uniform(FuseChooser):
    """Strided, positions kept."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control")

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Strided tokens of each sequence."""
        return Decision(keep=evenly(view.tokens, share), count=share)
