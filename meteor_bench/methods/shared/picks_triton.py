"""`methods.shared.picks` as a Triton kernel. Tested by Triton's interpreter on a CPU; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["nearer"]

WIDE = 256  # features at a time


@triton.jit
def _nearer(x, index, away, out, n, d, WIDE: tl.constexpr):
    """How far a token is from the nearest of those before and of one more; in float64."""
    token = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    other = tl.load(index + row)
    at = tl.arange(0, WIDE)
    square = tl.zeros((WIDE,), tl.float64)
    for start in range(0, d, WIDE):
        here = tl.load(x + (row * n + token) * d + start + at, mask=start + at < d, other=0.0)
        there = tl.load(x + (row * n + other) * d + start + at, mask=start + at < d, other=0.0)
        square += (here - there) * (here - there)
    tl.store(out + row * n + token, tl.minimum(tl.load(away + row * n + token), tl.sum(square, 0)))


def nearer(x: Tensor, index: Tensor, away: Tensor) -> Tensor:
    """What `methods.shared.picks.nearer` says, on tensors of one CUDA device."""
    x, index, away = x.contiguous(), index.contiguous(), away.contiguous()
    out = torch.empty_like(away)
    if out.numel():
        with on(out):
            _nearer[x.shape[1], len(x)](x, index, away, out, x.shape[1], x.shape[2], WIDE=WIDE)
    return out
