"""Merges of the tokens at even places of a row into those at odd ones, as equally many in every row."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.host import places
from meteor_bench.core.rows import ranks

__all__ = ["seats"]


def _seats(best: Tensor, partner: Tensor, n: int, r: int, ordered: bool) -> Tensor:
    evens, device = best.shape[1], best.device
    rank = ranks.plain(best)
    gone = rank < r
    if ordered:
        before = gone.cumsum(1)  # merged at even places up to here
        even = places(n, device)[0::2] - before
        odd = places(n, device)[1::2] - before[:, : n - evens]
    else:
        even, odd = rank - r, places(n, device)[evens - r : n - r].expand(len(best), -1)
    out = best.new_empty(len(best), n, dtype=torch.long)
    out[:, 0::2] = torch.where(gone, ~odd.gather(1, partner), even)
    out[:, 1::2] = odd
    return out


def _trial() -> tuple[Tensor, Tensor, int, int, bool]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(2, 40, generator=draw), torch.randint(39, (2, 40), generator=draw), 79, 15, True


seats = Fused(
    _seats,
    "(Tensor best, Tensor partner, SymInt n, SymInt r, bool ordered) -> Tensor",
    "meteor_bench.methods.shared.pairs_triton",
    _trial,
)
"""[B, N] long `Seats.places` after the r best edges have merged, ties to the lower place.

Args:
    best: [B, A] what the best edge of each token at an even place scores; partner: [B, A] long, where it leads, counted
        among the odd places.
    n: N, the tokens of a row; at least one stands at an odd place.
    r: how many merge, at most A.
    ordered: those that stay keep their order; else what is left of the even places, best edge first, stands before the
        odd ones.
"""
