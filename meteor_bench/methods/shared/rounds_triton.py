"""`methods.shared.rounds` as Triton kernels. Tested by Triton's interpreter on a CPU; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["facing", "thinned"]

SCAN = 512  # tokens looked at at a time


@triton.jit
def _facing(likeness, order, out, n, count, SCAN: tl.constexpr):
    """The most that a token at an even place is like one at an odd place."""
    place = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    own = tl.load(order + row * count + 2 * place)
    most = -float("inf")
    for start in range(0, count // 2, SCAN):
        at = start + tl.arange(0, SCAN)
        token = tl.load(order + row * count + 2 * at + 1, mask=at < count // 2, other=0)
        alike = tl.load(likeness + (row * n + own) * n + token, mask=at < count // 2, other=-float("inf"))
        most = tl.maximum(most, tl.max(alike, 0))
    tl.store(out + row * (count - count // 2) + place, most)


@triton.jit
def _thinned(alike, order, out, count, drop, SCAN: tl.constexpr):
    """Each token finds the place that it has afterwards, if it stays."""
    place = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    half, token = count - count // 2, tl.load(order + row * count + place)
    goes = half + place // 2 - drop
    if place % 2 == 0:
        value, before = tl.load(alike + row * half + place // 2), 0
        for start in range(0, half, SCAN):
            at = start + tl.arange(0, SCAN)
            other = tl.load(alike + row * half + at, mask=at < half, other=-float("inf"))
            ahead = (at < half) & ((other > value) | ((other == value) & (at < place // 2)))
            before += tl.sum(ahead.to(tl.int32), 0)
        goes = before - drop
    tl.store(out + row * (count - drop) + goes, token, mask=goes >= 0)


def facing(likeness: Tensor, order: Tensor) -> Tensor:
    """What `methods.shared.rounds.facing` says, on tensors of one CUDA device."""
    likeness, order = likeness.contiguous(), order.contiguous()
    batch, count = order.shape
    out = likeness.new_empty(batch, count - count // 2)
    if out.numel():
        with on(out):
            _facing[out.shape[1], batch](likeness, order, out, likeness.shape[1], count, SCAN=SCAN)
    return out


def thinned(alike: Tensor, order: Tensor, drop: int) -> Tensor:
    """What `methods.shared.rounds.thinned` says, on tensors of one CUDA device."""
    alike, order = alike.contiguous(), order.contiguous()
    out = torch.empty(len(order), order.shape[1] - drop, dtype=torch.long, device=order.device)
    if order.numel():
        with on(out):
            _thinned[order.shape[1], len(order)](alike, order, out, order.shape[1], drop, SCAN=SCAN)
    return out
