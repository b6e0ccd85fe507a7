"""`methods.shared.density` as Triton kernels. Tested by Triton's interpreter on a CPU; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["peaked"]

SCAN = 512  # points looked at at a time


@triton.jit
def _density(
    distance, present, each, density, reach, n, most, SOME: tl.constexpr, EACH: tl.constexpr, SCAN: tl.constexpr
):
    """Of one point exp(-mean of its smallest squared distances), found in rising order, and its largest distance."""
    own = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    itself = 1
    if SOME:
        itself = tl.load(present + row * n + own).to(tl.int32)
    wanted = most
    if EACH:
        wanted = tl.load(each + row).to(tl.int32)
    total, least, last, step, farthest = 0.0, -1.0, n, 0, 0.0
    while (step < tl.maximum(wanted, 1)) & (itself != 0):
        lowest, first = float("inf"), n
        for start in range(0, n, SCAN):
            at = start + tl.arange(0, SCAN)
            there = at < n
            if SOME:
                there &= tl.load(present + row * n + at, mask=at < n, other=0) != 0
            apart = tl.load(distance + (row * n + own) * n + at, mask=there, other=0.0)
            farthest = tl.maximum(farthest, tl.max(apart, 0))
            square = apart * apart
            ahead = there & ((square > least) | ((square == least) & (at > last)))
            low = tl.min(tl.where(ahead, square, float("inf")), 0)
            where = tl.min(tl.where(ahead & (square == low), at, n), 0)
            first = tl.where(low < lowest, where, first)
            lowest = tl.minimum(low, lowest)
        total += tl.where(step < wanted, lowest, 0.0)
        least, last = lowest, first
        step += 1
    tl.store(density + row * n + own, tl.where(itself != 0, tl.exp(-total / tl.maximum(wanted, 1)), -1.0))
    tl.store(reach + row * n + own, farthest)


@triton.jit
def _apart(distance, present, density, far, out, n, SOME: tl.constexpr, SCAN: tl.constexpr):
    """One point's density times its distance to the nearest denser one."""
    own = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    here = tl.load(density + row * n + own)
    nearest = tl.load(far + row)
    for start in range(0, n, SCAN):
        at = start + tl.arange(0, SCAN)
        there = tl.load(density + row * n + at, mask=at < n, other=-2.0)
        denser = (there > here) | ((there == here) & (at < own))
        apart = tl.load(distance + (row * n + own) * n + at, mask=(at < n) & denser, other=float("inf"))
        nearest = tl.minimum(nearest, tl.min(apart, 0))
    score = nearest * here
    if SOME:
        score = tl.where(tl.load(present + row * n + own) != 0, score, -float("inf"))
    tl.store(out + row * n + own, score)


def peaked(distance: Tensor, present: Tensor | None, each: Tensor | None, most: int) -> Tensor:
    """What `methods.shared.density.peaked` says, on tensors of one CUDA device; the largest of all is torch's."""
    distance = distance.contiguous()
    density, reach, out = (distance.new_empty(distance.shape[:2]) for _ in range(3))
    some = density if present is None else present.contiguous().view(torch.uint8)
    counted = density if each is None else each.contiguous()
    n, kinds = distance.shape[1], {"SOME": present is not None, "SCAN": SCAN}
    if out.numel():
        with on(distance):
            _density[n, len(distance)](distance, some, counted, density, reach, n, most, EACH=each is not None, **kinds)
            _apart[n, len(distance)](distance, some, density, reach.amax(1), out, n, **kinds)
    return out
