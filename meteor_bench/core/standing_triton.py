"""`core.standing` as Triton kernels. Tested by Triton's interpreter on a CPU; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["standing"]

TILE, SCAN = 32, 256  # cells, and tokens or cells looked at, at a time


@triton.jit
def _own(origin, group, out, n, cells, TILE: tl.constexpr, SCAN: tl.constexpr):
    """The token that stands for each cell of a tile, -1 where none does."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    wanted = tl.load(group + row * cells + own, mask=own < cells, other=-1)
    found = tl.full((TILE,), -1, tl.int64)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        from_there = tl.load(origin + row * n + at, mask=at < n, other=-1)
        hit = (from_there[None] == wanted[:, None]) & (wanted[:, None] >= 0)
        found = tl.maximum(found, tl.max(tl.where(hit, at[None].to(tl.int64), -1), 1))
    tl.store(out + row * cells + own, found, mask=own < cells)


@triton.jit
def _nearby(index, out, cells, frame, width, TILE: tl.constexpr, SCAN: tl.constexpr):
    """The same, and for a cell without one the token of the nearest cell of its frame that has one."""
    first = tl.program_id(0) * frame
    own = tl.program_id(1) * TILE + tl.arange(0, TILE)
    row = tl.program_id(2).to(tl.int64)
    here = tl.load(index + row * cells + first + own, mask=own < frame, other=-1)
    y, x = own // width, own % width
    # Squared distance, then index: the lower of equally near ones is the smaller number.
    best = tl.full((TILE,), 1 << 62, tl.int64)
    for start in range(0, frame, SCAN):
        at = start + tl.arange(0, SCAN)
        there = tl.load(index + row * cells + first + at, mask=at < frame, other=-1)
        down, across = y[:, None] - (at // width)[None], x[:, None] - (at % width)[None]
        far = (down * down + across * across).to(tl.int64) * frame + at[None]
        best = tl.minimum(best, tl.min(tl.where(there[None] >= 0, far, 1 << 62), 1))
    nobody = best == (1 << 62)
    near = tl.load(index + row * cells + first + best % frame, mask=(own < frame) & (nobody == 0), other=-1)
    tl.store(out + row * cells + first + own, tl.where(here >= 0, here, near), mask=own < frame)


def standing(origin: Tensor, group: Tensor, height: int, width: int) -> Tensor:
    """What `core.standing.standing` says, on tensors of one CUDA device."""
    origin, group, frame = origin.contiguous(), group.contiguous(), height * width
    rows, cells = group.shape
    index, out = torch.empty_like(group), torch.empty_like(group)
    if out.numel():
        with on(out):
            _own[triton.cdiv(cells, TILE), rows](origin, group, index, origin.shape[1], cells, TILE=TILE, SCAN=SCAN)
            tiles = cells // frame, triton.cdiv(frame, TILE), rows
            _nearby[tiles](index, out, cells, frame, width, TILE=TILE, SCAN=SCAN)
    return out
