"""Small vectorised pieces shared by the methods. Pure functions: tensors in, tensors out, shapes stated.

Everything works row by row (a result never depends on the other rows of a batch) and ignores padding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["similarity_to_mean", "unit"]


def unit(x: Tensor) -> Tensor:
    """Rows of [..., D] scaled to length 1, in float32; a zero row stays zero."""
    return F.normalize(x.float(), dim=-1, eps=1e-12)


def similarity_to_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Cosine similarity of each token to the mean token of its row.

    Args:
        x: [B, N, D].
        valid: [B, N] bool, tokens that count.

    Returns:
        [B, N] float32; 0 where not valid.
    """
    x = x.float().masked_fill(~valid[..., None], 0.0)
    mean = x.sum(1) / valid.sum(1).clamp(min=1)[:, None]  # [B, D]
    return torch.einsum("bnd,bd->bn", unit(x), unit(mean))
