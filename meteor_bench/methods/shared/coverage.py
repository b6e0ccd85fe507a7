"""Greedy choice of tokens that stand for all others: facility location, one pick a step."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.methods.shared.picks import picked, to_search

__all__ = ["cover"]


def cover(
    value: Tensor, weight: Tensor | None, k: Tensor, allowed: Tensor, count: Tensor, *, plus: bool = False
) -> Tensor:
    """Greedy maximum of ``sum over r of max over chosen j of value[r, j]``, every gain times the token's weight.

    A value below 0 covers nothing. Ties go to the lower index.

    Args:
        value: [B, R, N] how well token j stands for r; rows that do not count hold zeros.
        weight: [B, N] non-negative; None: all alike.
        k: [B] long on the CPU, tokens to choose; clipped to those allowed.
        allowed: [B, N] bool.
        count: [B] long on the CPU, how many are allowed.
        plus: add the weight to the gain instead.

    Returns:
        [B, N] bool.
    """
    k, whole = to_search(k, count)
    columns = value.transpose(1, 2).contiguous()  # [B, N, R]: a token's values lie side by side
    covered = value.new_zeros(value.shape[0], 1, value.shape[1])
    aside = torch.zeros_like(allowed, dtype=torch.float64).masked_fill_(~allowed, -torch.inf)  # [B, N]
    picks: list[Tensor] = []
    for _ in range(int(k.max())):
        gain = (columns - covered).clamp_(min=0).sum(2, dtype=torch.float64)  # [B, N]
        if weight is not None:
            gain = gain + weight if plus else gain * weight
        gain = gain + aside
        picks.append(gain.argmax(1, keepdim=True))  # [B, 1]
        aside.scatter_(1, picks[-1], -torch.inf)
        covered = torch.maximum(covered, take_rows(columns, picks[-1]))
    return picked(picks, torch.arange(len(picks)) < k[:, None], whole, allowed)
