"""CoMP's two importance measures (its CIM): of parameters weighted by tokens, of tokens under the heads that are left.

Formulas as in notes of the paper (en.papernotes.org, "Collaborative Multi-Mode Pruning for Vision-Language Models"),
equations of its section on the collaborative importance measure; the paper itself was not at hand.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["received", "squares", "structured", "token_weights"]


def received(attention: Tensor, heads: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
    """S^t before its Norm: [B, N], the sum over queries n of the maximum over heads h of A[h, n, i] times h's mask.

    Args:
        attention: [B, H, Q, N], after the softmax.
        heads: [H] masks between 0 and 1 that multiply a head's attention after its softmax (CIT); None: none does.
        queries: [B, Q] bool, those that count; None: all.
    """
    if heads is not None:
        attention = attention * heads[:, None, None]
    peak = attention.amax(1)
    return (peak if queries is None else peak * queries[..., None]).sum(1)


def token_weights(score: Tensor, first: bool) -> Tensor:
    """Omega: [B, N], scores brought to [0, 1] and then to a sum of 1; with `first`, a class token's 1 before them."""
    low, high = score.aminmax(dim=1, keepdim=True)
    ranged = (score - low) / (high - low).clamp(min=1e-12)
    weight = ranged / ranged.sum(1, keepdim=True).clamp(min=1e-12)
    return torch.cat([torch.ones_like(weight[:, :1]), weight], 1) if first else weight


def squares(x: Tensor, weight: Tensor) -> Tensor:
    """[D] sum over samples and tokens of the weight times the square of what a layer is given.

    Args:
        x: [B, N, D].
        weight: [B, N].
    """
    return torch.einsum("bn,bnd->d", weight.double(), x.double().square())


def structured(layer: Tensor, total: Tensor, units: int) -> Tensor:
    """S^p of a layer's units: the mean |weight| of an input channel times the root of `squares`, the mean of a unit.

    Args:
        layer: [out, in] as torch holds it, which is the transpose of the paper's.
        total: [in] what `squares` gave.
        units: number of equal runs of input channels that are pruned together.
    """
    score = layer.detach().double().abs().mean(0) * total.sqrt()
    return score.unflatten(0, (units, -1)).mean(1)
