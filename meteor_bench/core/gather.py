"""Rows of a padded batch by their index: taken out, and added up."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.host import places

__all__ = ["scatter_rows", "take_rows"]


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """[B, K, D]: the rows x[b, index[b, k]] of [B, N, D]."""
    if len(x) == 1:
        return x[0].index_select(0, index[0])[None]
    return x[places(len(x), x.device)[:, None], index]


def scatter_rows(x: Tensor, slot: Tensor) -> Tensor:
    """[B, N, D] with row ``slot[b, n]`` the sum of the rows x[b, n] that point to it; slot [B, N]."""
    b, n, d = x.shape
    # Whole rows at once: several times faster than scattering single numbers.
    flat = slot[0] if b == 1 else (slot + torch.arange(0, b * n, n, device=slot.device)[:, None]).flatten()
    return torch.zeros(b * n, d, dtype=x.dtype, device=x.device).index_add_(0, flat, x.reshape(-1, d)).view(b, n, d)
