"""none: the unpruned model on the same engine, the row that every other one is compared with.

Deviations: none; the budget is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from meteor_bench.core.pruner import Fact, Pruner

__all__ = ["NoPruning"]


@dataclass(frozen=True)
class NoPruning(Pruner):
    """Keeps everything."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control", stages=())
