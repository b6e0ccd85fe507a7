"""METEOR (ICCV 2025, arXiv 2507.20842)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from meteor_bench.methods._common import similarity_to_mean, unit

__all__ = ["redundancy", "similarity_to_mean"]


def redundancy(z: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cross-encoder redundancy of stage 2: ``R[i,j] = sum over l != j, m of cos(z[i,j], z[m,l])``.

    Computed as the dot product of each unit token with the sum of all other encoders' unit tokens: O(N·D), no
    N×N matrix. The lowest values are kept.

    Args:
        z: encoder -> [B, N_l, D] projected tokens, one width for all.
        valid: encoder -> [B, N_l] bool, tokens that count.

    Returns:
        Encoder -> [B, N_l] float32; 0 where not valid.
    """
    hat = {name: unit(x.masked_fill(~valid[name][..., None], 0.0)) for name, x in z.items()}
    sums = {name: h.sum(1) for name, h in hat.items()}  # [B, D]
    total = torch.stack(list(sums.values())).sum(0)
    return {name: torch.einsum("bnd,bd->bn", h, total - sums[name]) for name, h in hat.items()}
