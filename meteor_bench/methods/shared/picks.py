"""Choices put together as masks: the picks of a greedy search, and the best of groups; distances for such a search."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device
from meteor_bench.core.rows import foremost

__all__ = ["best_of_groups", "nearer", "picked", "to_search"]


def to_search(k: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """[B] picks that each row needs of a greedy search, and [B] whether it takes everything, for which none is needed.

    Args:
        k: [B] long, tokens to choose; clipped to what there is.
        count: [B] long, tokens that may be chosen. All of this is on the CPU.
    """
    whole = k >= count
    return k.masked_fill(whole, 0), whole


def picked(picks: list[Tensor], live: Tensor, whole: Tensor, allowed: Tensor) -> Tensor:
    """[B, N] bool, the picks that are live, and everything in rows that take everything.

    A row may want fewer picks than another, or none: what the search found for it beyond that does not count.

    Args:
        picks: for each step [B, 1] the token.
        live: [B, steps] bool, on the CPU where the host knows it.
        whole: [B] bool on the CPU, as `to_search` says.
        allowed: [B, N] bool.
    """
    rows, n = allowed.shape
    found = torch.zeros(rows, n + 1, dtype=torch.bool, device=allowed.device)  # column n takes what does not count
    if picks:
        at = torch.cat(picks, 1)
        if live.device.type != "cpu" or not bool(live.all()):
            at = at.masked_fill(~on_device(live, at.device), n)
        found.scatter_(1, at, True)
    found = found[:, :n]
    return found | (allowed & on_device(whole, found.device)[:, None]) if bool(whole.any()) else found


def best_of_groups(score: Tensor, group: Tensor, given: Tensor) -> Tensor:
    """[B, N] bool, the ``given`` [B, G] (on the CPU) highest scores of each group; ties to the lower index.

    Args:
        score: [B, N].
        group: [B, N] long; G for what is in none.
    """
    nobody = torch.zeros_like(given[:, :1])  # of what is in no group
    return foremost(score, group, on_device(torch.cat([given, nobody], 1), score.device))


def _nearer(x: Tensor, index: Tensor, away: Tensor) -> Tensor:
    return torch.minimum(away, (x - take_rows(x, index)).square().sum(2))


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _nearer_trial() -> tuple[Tensor, Tensor, Tensor]:
    return _drawn(2, 40, 70), torch.tensor([[3], [17]]), 140 + 20 * _drawn(2, 40)


nearer = Fused(
    _nearer,
    "(Tensor x, Tensor index, Tensor away) -> Tensor",
    "meteor_bench.methods.shared.picks_triton",
    _nearer_trial,
)
"""[B, N] float64, how far each token is from the nearest of those asked about so far and of one more, squared.

Args:
    x: [B, N, D] float64; index: [B, 1] long, the one more; away: [B, N] float64, what was said before.
"""
