"""SCOPE: Saliency-Coverage Oriented Token Pruning for Efficient MLLMs (NeurIPS 2025, arXiv 2510.24214), section 3.

After the encoder. Tokens are chosen one by one: the gain of token j is ``s_j^alpha · sum over i of max(0, cos(i, j) -
m_i)``, where s is the class token's attention, summed over heads, and m_i how well i is covered already, the largest
cosine to a chosen token or 0. Features are those before the projector, alpha is 1.

Deviations:

1. `combination` = add takes the gain plus ``s_j^alpha``, which the authors' code has beside the published product. The
   attention there is the sum over heads; here it is the mean, which the product does not notice and the sum does.
2. Several encoders, frames, encoders without a class token or attention, and the block that the attention is read from:
   see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.pruner import Decision, Fact, View
from meteor_bench.core.settings import Range
from meteor_bench.methods.shared.coverage import cover
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["Scope"]


@dataclass(frozen=True)
class Scope(AttentionScorer):
    """Attributes are explained at the top of the file; see also `AttentionScorer`.

    Attributes:
        alpha: exponent of the attention.
        combination: multi (the gain times the attention) or add.
    """

    alpha: Annotated[float, Range(least=0)] = 1.0
    combination: Literal["multi", "add"] = "multi"

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2510.24214", stages=("encode",), needs=("attention",))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Attended tokens that cover the others."""
        visual = view.tokens.visual
        v = unit(view.tokens.x)
        likeness = (v @ v.transpose(1, 2)).masked_fill(~visual[:, :, None], 0.0)  # [R, N, N], rows are what is covered
        weight = score.double().clamp(min=0) ** self.alpha
        keep = cover(likeness, weight, share, visual, view.tokens.counts(), plus=self.combination == "add")
        return Decision(keep=keep, score=score, count=torch.minimum(share, view.tokens.counts()))
