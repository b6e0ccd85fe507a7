"""comp-token: the token score of CoMP (arXiv 2604.02956), after the encoder.

It is not CoMP, which also prunes weights and text and retrains.

``S_i = Norm(sum over queries n of the maximum over heads h of A[h,n,i])``; the T highest stay.

Deviations: Norm and the layer are not published: it is the range of a frame brought to [0, 1] (which changes no rank),
over the last block that the model runs. The sum over queries is their mean. All queries count, the class token's too.
Several encoders, frames, encoders without attention: see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meteor_bench.core.pruner import EncodeView, Fact, TowerAttention
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["CompToken"]


@dataclass(frozen=True)
class CompToken(AttentionScorer):
    """Attributes: see `AttentionScorer`."""

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2604.02956", stages=("encode",), needs=("attention",))
    title: ClassVar[str] = "comp-token"
    statistic: ClassVar[TowerAttention | None] = "peak"

    def score(self, view: EncodeView) -> Tensor:
        """The range of each row's visual tokens brought to [0, 1]."""
        raw, visual = super().score(view), view.candidates
        if visual is None:
            low, high = raw.aminmax(dim=1, keepdim=True)
            return (raw - low) / (high - low).clamp(min=1e-12)
        low = raw.masked_fill(~visual, torch.inf).amin(1, keepdim=True)
        high = raw.masked_fill(~visual, -torch.inf).amax(1, keepdim=True)
        return ((raw - low) / (high - low).clamp(min=1e-12)).masked_fill(~visual, 0.0)
