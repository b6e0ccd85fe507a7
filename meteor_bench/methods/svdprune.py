"""SVDPrune (arXiv 2604.11530): tokens with the highest statistical leverage stay. After the encoder.

The features F [N, D] = U·S·V'; k is the smallest rank whose squared singular values hold a share `energy` of their sum.
A token's leverage is ``(1/k)·sum over j <= k of U[t,j]^2``; the T highest stay.

Deviations: the share is not published; 0.9 is ours. F is not centred. Not offered: the smallest set whose leverage
reaches a budget. U comes from the eigenvectors of the smaller Gram matrix, the same up to rounding. Several encoders
and frames: see `methods.shared.selection`; each encoder's leverage is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.pruner import EncodeView, Fact
from meteor_bench.core.settings import Range
from meteor_bench.methods.shared.selection import EncodeScorer

__all__ = ["SVDPrune", "leverage"]


def leverage(x: Tensor, visual: Tensor, energy: float) -> Tensor:
    """[B, N] float32 leverage of each token in its row's k leading left singular vectors, 0 where not visual.

    Args:
        x: [B, N, D].
        visual: [B, N] bool, tokens that count.
        energy: share of the squared singular values that the k hold.
    """
    f = x.float().masked_fill(~visual[..., None], 0.0)
    n, d = f.shape[1:]
    if n == 0:
        return f.new_zeros(f.shape[:2])
    gram = f @ f.transpose(1, 2) if n <= d else f.transpose(1, 2) @ f
    values, vectors = torch.linalg.eigh(gram)  # ascending
    values, vectors = values.flip(1).clamp(min=0), vectors.flip(2)
    held = values.double().cumsum(1) / values.double().sum(1, keepdim=True).clamp(min=1e-300)
    used = torch.arange(values.shape[1], device=x.device) <= (held < energy).sum(1, keepdim=True)  # [B, min(N, D)]
    used = used & (values > 1e-6 * values[:, :1])  # what is left below that is rounding
    if n <= d:
        square = vectors.square()
    else:
        square = (f @ vectors).square() / values[:, None].clamp(min=1e-30)  # U = F·V/S
    total: Tensor = (square * used[:, None]).sum(2) / used.sum(1, keepdim=True).clamp(min=1)
    return total.masked_fill(~visual, 0.0)


@dataclass(frozen=True)
class SVDPrune(EncodeScorer):
    """Attributes: energy: share of the squared singular values that the k leading ones hold; and see `EncodeScorer`."""

    energy: Annotated[float, Range(above=0, most=1)] = 0.9

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2604.11530", stages=("encode",))
    title: ClassVar[str] = "svdprune"

    def score(self, view: EncodeView) -> Tensor:
        """Leverage of the tower's features."""
        return leverage(view.tokens.x, view.tokens.visual, self.energy)
