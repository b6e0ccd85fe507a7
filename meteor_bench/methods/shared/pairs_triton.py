"""`methods.shared.pairs` as Triton kernels: ranks, then places. Tested by the interpreter; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core import rows_triton

__all__ = ["seats"]

TILE, SCAN = 32, 512  # pairs placed, and looked at, at a time


@triton.jit
def _seats(
    rank, partner, out, n, evens, r, heads,
    ORDER: tl.constexpr, TILE: tl.constexpr, SCAN: tl.constexpr,
):  # fmt: skip
    """Where the tokens 2i and 2i + 1 of a row end, for a tile of i."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    place = tl.load(rank + row * evens + own, mask=own < evens, other=0)
    goal = tl.load(partner + row * evens + own, mask=own < evens, other=0)
    before = tl.zeros((TILE,), tl.int64)  # merged at even places up to here, and up to the partner
    ahead = tl.zeros((TILE,), tl.int64)
    if ORDER > 0:
        for start in range(0, evens, SCAN):
            at = start + tl.arange(0, SCAN)
            gone = tl.load(rank + row * evens + at, mask=at < evens, other=r) < r
            before += tl.sum((gone[None] & (at[None] <= own[:, None])).to(tl.int64), 1)
            ahead += tl.sum((gone[None] & (at[None] <= goal[:, None])).to(tl.int64), 1)
    if ORDER == 1:
        even = 2 * own - before
        odd = 2 * own + 1 - before
        led = 2 * goal + 1 - ahead
    else:
        even = own - before
        if ORDER == 0:
            even = place - r
        odd = (evens - r + own).to(tl.int64)
        led = evens - r + goal
    first = out + row * (heads + n)
    tl.store(first + heads + 2 * own, tl.where(place < r, -1 - led - heads, even + heads), mask=own < evens)
    tl.store(first + heads + 2 * own + 1, odd + heads, mask=own < n - evens)
    if tl.program_id(0) == 0:
        for head in range(0, heads):
            tl.store(first + head, head)


def seats(best: Tensor, partner: Tensor, n: int, r: int, order: int, heads: int) -> Tensor:
    """What `methods.shared.pairs.seats` says, on tensors of one CUDA device."""
    count, evens = best.shape
    rank = rows_triton.ranks(best)
    out = torch.empty(count, heads + n, dtype=torch.long, device=best.device)
    with rows_triton.on(best):
        _seats[triton.cdiv(evens, TILE), count](
            rank, partner.contiguous(), out, n, evens, r, heads, ORDER=order, TILE=TILE, SCAN=SCAN
        )
    return out
