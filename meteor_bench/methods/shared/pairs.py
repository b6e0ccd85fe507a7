"""Merges of the tokens at even places of a row into those at odd ones, as equally many in every row."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.host import places
from meteor_bench.core.rows import ranks

__all__ = ["BY_SCORE", "IN_PLACE", "ODD_LAST", "Order", "seats"]

Order = Literal[0, 1, 2]
BY_SCORE: Order = 0  # what is left of the even places, best edge first, stands before the odd ones
IN_PLACE: Order = 1  # those that stay keep their order
ODD_LAST: Order = 2  # as they stand, but the even ones before the odd ones


def _seats(best: Tensor, partner: Tensor, n: int, r: int, order: int, heads: int) -> Tensor:
    evens, device = best.shape[1], best.device
    rank = ranks.plain(best)
    gone = rank < r
    own = places(heads + n, device)[heads:]
    if order == IN_PLACE:
        before = gone.cumsum(1)  # merged at even places up to here
        even, odd = own[0::2] - before, own[1::2] - before[:, : n - evens]
    else:
        even = rank + (heads - r) if order == BY_SCORE else own[:evens] - gone.cumsum(1)
        odd = own[evens - r : n - r].expand(len(best), -1)
    out = best.new_empty(len(best), heads + n, dtype=torch.long)
    if heads:
        out[:, :heads] = places(heads, device)
    out[:, heads::2] = torch.where(gone, ~odd.gather(1, partner), even)
    out[:, heads + 1 :: 2] = odd
    return out


def _trial() -> tuple[Tensor, Tensor, int, int, int, int]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(2, 40, generator=draw), torch.randint(39, (2, 40), generator=draw), 79, 15, IN_PLACE, 1


seats = Fused(
    _seats,
    "(Tensor best, Tensor partner, SymInt n, SymInt r, SymInt order, SymInt heads) -> Tensor",
    "meteor_bench.methods.shared.pairs_triton",
    _trial,
)
"""[B, heads + N] long `Seats.places` after the r best edges have merged, ties to the lower place.

Args:
    best: [B, A] what the best edge of each token at an even place scores; partner: [B, A] long, where it leads, counted
        among the odd places.
    n: N, the tokens of a row that are looked at; at least one stands at an odd place.
    r: how many merge, at most A.
    order: how those that stay stand, an `Order`.
    heads: tokens that stand before those and stay there, of which the row has as many more.
"""
