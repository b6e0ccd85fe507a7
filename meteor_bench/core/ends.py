"""Where the tokens of a row end when some go, and what the merge makes of those that stay. A kernel each on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import places

__all__ = ["followed", "merged", "nearest", "settled"]

KERNELS = "meteor_bench.core.ends_triton"


def _merged(x: Tensor, size: Tensor, seats: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    rows, n, width = x.shape
    gone, seat = seats < 0, torch.maximum(seats, ~seats)
    own = places(n, x.device).expand(rows, n)
    # The extra column takes what those write that do not stay.
    stay = seats.new_empty(rows, count + 1).scatter_(1, seats.masked_fill(gone, count), own)[:, :count]
    mass = torch.zeros(rows, count + 1, dtype=size.dtype, device=x.device).scatter_add_(1, seat, size)[:, :count]
    flat = (seat + (count + 1) * places(rows, x.device)[:, None]).flatten()
    total = torch.zeros(rows * (count + 1), width, device=x.device)
    total.index_add_(0, flat, (x.float() * size.float()[..., None]).reshape(-1, width))
    total = total.view(rows, count + 1, width)[:, :count].div_(mass.float()[..., None])
    grown = mass > size.gather(1, stay)
    return torch.where(grown[..., None], total.to(x.dtype), take_rows(x, stay)), mass.contiguous(), stay.contiguous()


def _followed(seats: Tensor, index: Tensor) -> Tensor:
    return torch.maximum(seats, ~seats).gather(1, index)


def _settled(index: Tensor, into: Tensor) -> Tensor:
    rows, count = index.shape
    place = into.new_full(into.shape, -1).scatter_(1, index, places(count, index.device).expand(rows, count))
    ends = place.gather(1, into.clamp(0, max(0, into.shape[1] - 1)))
    nowhere = (into < 0) | (ends < 0)
    return torch.where(place < 0, ~ends.masked_fill_(nowhere, count), place)


def _nearest(likeness: Tensor, keep: Tensor) -> Tensor:
    found = likeness.masked_fill(~keep[:, None], -torch.inf).argmax(2)
    found = torch.where(keep, places(keep.shape[1], keep.device), found)
    return found.masked_fill_(~keep.any(1, keepdim=True), -1)


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _merged_trial() -> tuple[Tensor, Tensor, Tensor, int]:
    seats = torch.tensor([[0, ~1, 1, ~1, 2, 3, ~3], [~0, ~0, 3, 0, 2, 1, ~2]])
    return _drawn(2, 7, 70), torch.tensor([[1.0, 2, 3, 1, 1, 2, 1]]).expand(2, 7).contiguous(), seats, 4


def _followed_trial() -> tuple[Tensor, Tensor]:
    return torch.tensor([[0, ~1, 1], [~0, 0, 1]]), torch.tensor([[2, 1, 1, 0], [0, 0, 1, 2]])


def _settled_trial() -> tuple[Tensor, Tensor]:
    return torch.tensor([[4, 0], [1, 3]]), torch.tensor([[0, 4, 0, -1, -1], [3, 2, -1, 2, 1]])


def _nearest_trial() -> tuple[Tensor, Tensor]:
    return _drawn(2, 70, 70).round(decimals=1), _drawn(2, 70) > 0


merged = Fused(
    _merged, "(Tensor x, Tensor size, Tensor seats, SymInt count) -> (Tensor, Tensor, Tensor)", KERNELS, _merged_trial
)
"""Tokens after a merge by `Seats.places`: means weighted by size; whoever absorbs nothing is untouched, bit for bit.

Args:
    x: [B, N, D]; size: [B, N], positive; seats: [B, N] long, `Seats.places`, or ``~K`` for a token that ends nowhere;
        count: K, how many stay.

Returns:
    Their features [B, K, D], sizes [B, K] and indices before [B, K].
"""

followed = Fused(_followed, "(Tensor seats, Tensor index) -> Tensor", KERNELS, _followed_trial)
"""[B, G] long, the place after a merge, by `Seats.places` [B, N], of the token at each index [B, G]."""
settled = Fused(_settled, "(Tensor index, Tensor into) -> Tensor", KERNELS, _settled_trial)
"""[B, N] long, `Seats.places` of a merge, ``~K`` for a token that ends nowhere.

Args:
    index: [B, K] long, the tokens that stay, in their order; into: [B, N] long, the one of them that each other token
        ends in, another or -1 for none; what it says of those that stay does not matter.
"""

nearest = Fused(_nearest, "(Tensor likeness, Tensor keep) -> Tensor", KERNELS, _nearest_trial)
"""[B, N] long, for each token the kept one that is most like it, ties to the lower index; a kept one has itself.

Where a row keeps none, -1; where a likeness is NaN, any that is kept.

Args:
    likeness: [B, N, N], symmetric or of each token to the others; keep: [B, N] bool.
"""
