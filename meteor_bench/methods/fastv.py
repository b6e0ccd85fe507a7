"""FastV: An Image is Worth 1/2 Tokens After Layer 2 (ECCV 2024, arXiv 2403.06764), section 4.1.

Before language-model layer K the visual tokens are ranked by the attention that the last prompt token pays them in
layer K-1, averaged over heads; the T highest stay, with their original position ids.

Deviations: none known. K (0-based) is 2 as in the paper; the authors' demo uses 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from meteor_bench.core.pruner import DecodeView, Fact
from meteor_bench.methods.shared.scorers import DecodeScorer

__all__ = ["FastV"]


@dataclass(frozen=True)
class FastV(DecodeScorer):
    """Attributes: see `DecodeScorer`."""

    fact: ClassVar[Fact] = Fact(year=2024, paper="arXiv 2403.06764", needs=("attention",))

    def score(self, view: DecodeView) -> Tensor:
        """What the last prompt token attends to, averaged over heads."""
        return view.attention.float().mean(1)[:, 0]  # [B, H, 1, N] -> [B, N]
