"""`core.ends` as Triton kernels. Sums are made in a fixed order and in float32: no atomics.

The arithmetic is tested by Triton's interpreter on a CPU; it has not run on a card.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["followed", "merged", "nearest", "settled"]

WIDE, SCAN, TILE = 256, 512, 32  # features, tokens looked at, and tokens of a program at a time


@triton.jit
def _merged(x, size, seats, out, mass, stay, n, count, d, WIDE: tl.constexpr, SCAN: tl.constexpr):
    """One token that stays: its parts are looked for, and added up in the order in which they stand."""
    seat = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    at, column = tl.arange(0, SCAN), tl.arange(0, WIDE)
    total, parts, own = 0.0, 0, 0
    for start in range(0, n, SCAN):
        i = start + at
        place = tl.load(seats + row * n + i, mask=i < n, other=count)
        hit = (place == seat) | (place == -1 - seat)
        total += tl.sum(tl.load(size + row * n + i, mask=hit, other=0.0).to(tl.float32), 0)
        parts += tl.sum(hit.to(tl.int32), 0)
        own = tl.maximum(own, tl.max(tl.where(place == seat, i, 0), 0))
    tl.store(mass + row * count + seat, total)
    tl.store(stay + row * count + seat, own)
    for first in range(0, d, WIDE):
        there = first + column < d
        if parts == 1:
            value = tl.load(x + (row * n + own) * d + first + column, mask=there, other=0.0)
            tl.store(out + (row * count + seat) * d + first + column, value, mask=there)
        else:
            added = tl.zeros((WIDE,), tl.float32)
            for start in range(0, n, SCAN):
                i = start + at
                place = tl.load(seats + row * n + i, mask=i < n, other=count)
                hit = (place == seat) | (place == -1 - seat)
                part = tl.min(tl.where(hit, i, n), 0)
                while part < n:
                    value = tl.load(x + (row * n + part) * d + first + column, mask=there, other=0.0)
                    added += value.to(tl.float32) * tl.load(size + row * n + part).to(tl.float32)
                    part = tl.min(tl.where(hit & (i > part), i, n), 0)
            tl.store(out + (row * count + seat) * d + first + column, added / total, mask=there)


@triton.jit
def _followed(seats, index, out, n, cells, SCAN: tl.constexpr):
    """Where the tokens at some indices end."""
    at = tl.program_id(0) * SCAN + tl.arange(0, SCAN)
    row = tl.program_id(1).to(tl.int64)
    token = tl.load(index + row * cells + at, mask=at < cells, other=0)
    place = tl.load(seats + row * n + token, mask=at < cells, other=0)
    tl.store(out + row * cells + at, tl.maximum(place, -1 - place), mask=at < cells)


@triton.jit
def _settled(index, into, out, n, count, TILE: tl.constexpr, SCAN: tl.constexpr):
    """Where each of a tile's tokens stands, or the one that it ends in."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    end = tl.load(into + row * n + own, mask=own < n, other=-1)
    place, other = tl.full((TILE,), -1, tl.int64), tl.full((TILE,), -1, tl.int64)
    for start in range(0, count, SCAN):
        at = start + tl.arange(0, SCAN)
        stays = tl.load(index + row * count + at, mask=at < count, other=-2)[None]
        place = tl.maximum(place, tl.max(tl.where(stays == own[:, None], at[None].to(tl.int64), -1), 1))
        other = tl.maximum(other, tl.max(tl.where(stays == end[:, None], at[None].to(tl.int64), -1), 1))
    other = tl.where((end < 0) | (other < 0), count, other)
    tl.store(out + row * n + own, tl.where(place < 0, -1 - other, place), mask=own < n)


@triton.jit
def _nearest(likeness, keep, out, n, TILE: tl.constexpr, SCAN: tl.constexpr):
    """Of the kept tokens the first that is most like each of a tile's."""
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.program_id(1).to(tl.int64)
    highest, found = tl.full((TILE,), -float("inf"), tl.float32), tl.full((TILE,), -1, tl.int64)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        stays = (at < n) & (tl.load(keep + row * n + at, mask=at < n, other=0) != 0)
        there = stays[None] & (own[:, None] < n)
        alike = tl.load(likeness + (row * n + own[:, None]) * n + at[None], mask=there, other=-float("inf"))
        most = tl.max(alike, 1)
        first = tl.min(tl.where(there & (alike == most[:, None]), at[None].to(tl.int64), n), 1)
        kept = tl.min(tl.where(stays, at, n), 0).to(tl.int64)
        found = tl.where((found < 0) & (kept < n), kept, found)  # also where no likeness is a number
        better = (first < n) & (most > highest)
        found = tl.where(better, first, found)
        highest = tl.where(better, most, highest)
    itself = tl.load(keep + row * n + own, mask=own < n, other=0) != 0
    tl.store(out + row * n + own, tl.where(itself, own, found), mask=own < n)


def merged(x: Tensor, size: Tensor, seats: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `core.ends.merged` says, on tensors of one CUDA device."""
    x, size, seats = x.contiguous(), size.contiguous(), seats.contiguous()
    batch, n, width = x.shape
    out = torch.empty(batch, count, width, dtype=x.dtype, device=x.device)
    mass = torch.empty(batch, count, dtype=size.dtype, device=x.device)
    stay = torch.empty(batch, count, dtype=torch.long, device=x.device)
    if batch and count:
        with on(x):
            _merged[count, batch](x, size, seats, out, mass, stay, n, count, width, WIDE=WIDE, SCAN=SCAN)
    return out, mass, stay


def followed(seats: Tensor, index: Tensor) -> Tensor:
    """What `core.ends.followed` says, on tensors of one CUDA device."""
    seats, index = seats.contiguous(), index.contiguous()
    out = torch.empty_like(index)
    if out.numel():
        with on(out):
            _followed[triton.cdiv(index.shape[1], SCAN), len(index)](
                seats, index, out, seats.shape[1], index.shape[1], SCAN=SCAN
            )
    return out


def settled(index: Tensor, into: Tensor) -> Tensor:
    """What `core.ends.settled` says, on tensors of one CUDA device."""
    index, into = index.contiguous(), into.contiguous()
    out = torch.empty_like(into)
    if out.numel():
        with on(out):
            _settled[triton.cdiv(into.shape[1], TILE), len(into)](
                index, into, out, into.shape[1], index.shape[1], TILE=TILE, SCAN=SCAN
            )
    return out


def nearest(likeness: Tensor, keep: Tensor) -> Tensor:
    """What `core.ends.nearest` says, on tensors of one CUDA device."""
    likeness, keep = likeness.contiguous(), keep.contiguous()
    out = torch.empty(keep.shape, dtype=torch.long, device=keep.device)
    if out.numel():
        with on(out):
            _nearest[triton.cdiv(keep.shape[1], TILE), len(keep)](
                likeness, keep.view(torch.uint8), out, keep.shape[1], TILE=TILE, SCAN=SCAN
            )
    return out
