"""`models.window_places` as Triton kernels. Tested by Triton's interpreter on a CPU; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["in_places"]

TILE, SCAN = 32, 256  # tokens or places, and tokens looked at, at a time


@triton.jit
def _place(origin, known, counted, early, out, n, cells, columns, last, TILE: tl.constexpr, SCAN: tl.constexpr):
    """The place of each token of a tile: how many come before it, and where its window begins."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    cell = tl.load(origin + row * n + own, mask=own < n, other=-1)
    cell = tl.where(cell < 0, cells, cell)
    value = tl.load(early + cell)
    before = tl.zeros((TILE,), tl.int64)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        other = tl.load(origin + row * n + at, mask=at < n, other=-1)
        other = tl.load(early + tl.where(other < 0, cells, other))
        ahead = (other[None] > value[:, None]) | ((other[None] == value[:, None]) & (at[None] < own[:, None]))
        before += tl.sum((ahead & (at[None] < n)).to(tl.int64), 1)
    place = before + tl.load(known + row * columns + tl.load(counted + cell))
    tl.store(out + row * n + own, tl.minimum(place, last), mask=own < n)


@triton.jit
def _fill(
    place, origin, known, inner, padding, token, out, n, columns, windows, width, most,
    TILE: tl.constexpr, SCAN: tl.constexpr,
):  # fmt: skip
    """The token and the cell at each place of a tile."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    there = own < windows * width
    found = tl.full((TILE,), -1, tl.int64)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        goal = tl.load(place + row * n + at, mask=at < n, other=-1)
        found = tl.maximum(found, tl.max(tl.where(goal[None] == own[:, None], at[None].to(tl.int64), -1), 1))
    taken = found >= 0
    window, seat = own // width, own % width
    inside = tl.load(known + row * columns + windows + 1 + window, mask=there, other=0)
    more = tl.load(known + row * columns + 2 * windows + 1 + window, mask=there, other=0)
    beyond = seat - inside
    filler = there & (beyond >= 0) & (beyond < more)
    of_padding = tl.load(padding + window * most + tl.minimum(beyond, most - 1), mask=filler, other=0)
    of_token = tl.load(
        inner + tl.load(origin + row * n + found, mask=there & taken, other=0), mask=there & taken, other=0
    )
    tl.store(token + row * windows * width + own, tl.where(taken, found, 0), mask=there)
    tl.store(out + row * windows * width + own, tl.where(filler, of_padding, of_token), mask=there)


def in_places(
    origin: Tensor, known: Tensor, counted: Tensor, inner: Tensor, early: Tensor, padding: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What `models.window_places.in_places` says, on tensors of one CUDA device."""
    origin, known, padding = origin.contiguous(), known.contiguous(), padding.contiguous()
    (rows, n), (windows, most), columns = origin.shape, padding.shape, known.shape[1]
    count = windows * width
    place = torch.empty_like(origin)
    token, cell = (torch.empty(rows, count, dtype=torch.long, device=origin.device) for _ in range(2))
    with on(origin):
        if place.numel():
            _place[triton.cdiv(n, TILE), rows](
                origin, known, counted, early, place, n, len(inner) - 1, columns, count, TILE=TILE, SCAN=SCAN
            )
        if token.numel():
            _fill[triton.cdiv(count, TILE), rows](
                place,
                origin,
                known,
                inner,
                padding,
                token,
                cell,
                n,
                columns,
                windows,
                width,
                most,
                TILE=TILE,
                SCAN=SCAN,
            )
    return place, token, cell
