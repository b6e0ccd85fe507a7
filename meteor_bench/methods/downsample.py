"""downsample: the image itself, shrunk so that the encoders yield about T tokens. A control: it also saves their time.

The image is resized to the smallest grid of about its own aspect whose unpruned tokens are at least T (counted over
all encoders on an independent fusion); at the fuse point strided tokens are dropped, so that the budget is exact.

Deviations: the usual form of this control stops at the nearest grid and misses the budget by up to a grid row.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import Decision, Fact, FuseView, Points
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.helpers import evenly
from meteor_bench.methods.shared.scorers import FuseChooser

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["Downsample"]

MOST_STRETCH = 1.15  # of the image's aspect


@dataclass(frozen=True)
class Downsample(FuseChooser):
    """A smaller input, positions renumbered."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control", stages=("input", "fuse"))
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The trim before the language model."""
        if not vlm.resizable:
            raise UnsupportedError(f"downsample shrinks the image; the encoders of '{vlm.name}' take one size only")
        return super().points(vlm, budget)

    def input_grid(self, vlm: VLM, budget: TokenBudget, grid: Grid) -> Grid | None:
        """The smallest grid of about the same shape that yields the budget."""
        target = budget.tokens(vlm.reference(grid))
        guess = int(grid.h * sqrt(target / _count(vlm, grid, grid)))
        candidates: list[tuple[int, float, Grid]] = []
        for h in range(max(1, guess - 1), min(guess + 3, grid.h) + 1):
            ideal = h * grid.w / grid.h
            for w in range(max(1, int(ideal) - 1), min(int(ideal) + 2, grid.w) + 1):
                stretch = max(ideal / w, w / ideal)
                if stretch <= MOST_STRETCH or abs(w - ideal) < 1:
                    candidates.append((h * w, stretch, Grid(grid.t, h, w)))
        enough = (smaller for _, _, smaller in sorted(candidates) if _count(vlm, smaller, grid) >= target)
        return next(enough, None)

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Trim to the budget."""
        return Decision(keep=evenly(view.tokens, share), count=share)


def _count(vlm: VLM, grid: Grid, full: Grid) -> int:
    """Unpruned tokens of a sample that was shrunk from the lead tower's grid ``full`` to ``grid``."""
    cells = vlm.grid(1, *vlm.native)
    height, width = (native * size // cell for native, size, cell in zip(vlm.native, full[1:], cells[1:], strict=True))
    height, width = height * grid.h // full.h, width * grid.w // full.w
    grids = {name: Grid(grid.t, *tower.grid(height, width)[1:]) for name, tower in vlm.towers.items()}
    if vlm.fusion.kind == "shared":
        return vlm.fusion.common(grids).n
    return sum(g.n for g in grids.values())
