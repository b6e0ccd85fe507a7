"""Methods that read an encoder's attention twice: in a block on the way, and in the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import Decision, EncodePoint, EncodeView, Points
from meteor_bench.methods.shared.selection import EncodeScorer

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["TwoBlockScorer"]


@dataclass(frozen=True)
class TwoBlockScorer(EncodeScorer):
    """A score made of two blocks' attention; see `EncodeScorer` for the rest.

    Class attributes:
        on_the_way: the first block's place in the encoder, as a share of its depth; the nearest block is read, halves
            to the even one.
    """

    on_the_way: ClassVar[Fraction]

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The blocks on the way, then the outputs."""
        points = super().points(vlm, budget)
        (end,) = points.encode
        blocks = {name: max(1, round(self.on_the_way * depth)) for name, depth in end.after.items() if depth > 0}
        first = EncodePoint(after=blocks, attention=self.statistic)
        return replace(points, encode=(first, end)) if blocks else points

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Remember what the first block says; at the outputs choose, or only score."""
        first = next(iter(views.values()))
        # Convolutional encoders have no block on the way, so one that has tells the two points apart.
        if first.point > 0 or first.layout.depths[first.tower] == 0:
            return super().encode(views)
        return {
            name: Decision(keep=v.tokens.visual, memo={self._name(name): EncodeScorer.score(self, v)})
            for name, v in views.items()
        }

    def earlier(self, view: EncodeView, last: Tensor) -> Tensor:
        """[R, N] what the first block said; ``last``, the last block's, where there was none."""
        return view.memo.get(self._name(view.tower), last)

    def _name(self, tower: str) -> str:
        return f"{self.title}.{tower}"
