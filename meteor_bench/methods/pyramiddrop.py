"""PyramidDrop: Accelerating LVLMs via pyramid visual redundancy reduction (CVPR 2025, arXiv 2410.17247), section 3.

The language model is cut in four equal stages. At the end of each but the last, visual tokens are ranked by the
attention that the last prompt token pays them in the layer that comes next (its norm, queries, keys and positions;
a causal softmax over the whole sequence, averaged over heads), and a fixed share stays: 1/2, 1/4, 1/8 of the original
tokens in the paper.

Deviations:

- The shares are geometric: of N tokens ``floor(N·keep^(i/3))`` stay after point i, keep the share that the budget is,
  and T, the budget itself, after the last. At keep = 1/8 these are the published 1/2, 1/4, 1/8: 50, 25, 12 of 100.
- The points are before layers 8, 16, 24 of 32 in the paper; at other depths at the nearest layer to 1/4, 1/2, 3/4.
- N is the length of the unpruned visual sequence, all encoders together; they are ranked in one list.
- Grouped-query models work (the official code fails on them).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, Points, Pruner, keep_top
from meteor_bench.core.settings import Range
from meteor_bench.methods.shared.helpers import depth_points

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["PyramidDrop"]


@dataclass(frozen=True)
class PyramidDrop(Pruner):
    """Attributes: stages_at: ends of the stages as shares of the language model's depth."""

    stages_at: Annotated[tuple[Annotated[float, Range(above=0, below=1)], ...], Range(least=1)] = (0.25, 0.5, 0.75)

    fact: ClassVar[Fact] = Fact(year=2024, paper="arXiv 2410.17247", stages=("decode",), needs=("attention",))
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise(self.stages_at)):
            raise ConfigError(f"pyramiddrop: stages_at={self.stages_at} must rise")

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """At the ends of the stages."""
        shares = [Fraction(share).limit_denominator(1000) for share in self.stages_at]
        layers = depth_points("pyramiddrop", vlm, shares)
        return Points(decode=tuple(DecodePoint(before=layer, attention="last", peek=True) for layer in layers))

    def decode(self, view: DecodeView) -> Decision:
        """The tokens that the last prompt token will attend to most."""
        score = view.attention.float().mean(1)[:, 0]  # [B, H, 1, N] -> [B, N]
        n, power = view.tokens.grid.n, (view.point + 1) / len(view.layers)
        left = (view.reference.double() * view.keep / n).clamp(max=1)  # T/N before T was rounded
        share = torch.floor(n * left**power + 1e-9).long()
        k = torch.maximum(share, view.target)
        return Decision(keep=keep_top(score, k, view.candidates), score=score, count=k)
