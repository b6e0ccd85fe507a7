"""`models.relative` as a Triton kernel. Tested by Triton's interpreter on a CPU; it has not run on a card."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from meteor_bench.core.rows_triton import on

__all__ = ["relative"]

SCAN = 512  # keys at a time


@triton.jit
def _relative(down, across, row, column, out, heads, n, side, SCAN: tl.constexpr):
    """What a query gives to some keys."""
    query = tl.program_id(0).to(tl.int64)  # of all batches, heads and tokens
    at = tl.program_id(1) * SCAN + tl.arange(0, SCAN)
    batch = query // (heads * n)
    y = tl.load(row + batch * n + at, mask=at < n, other=0)
    x = tl.load(column + batch * n + at, mask=at < n, other=0)
    both = tl.load(down + query * side + y, mask=at < n) + tl.load(across + query * side + x, mask=at < n)
    tl.store(out + query * n + at, both, mask=at < n)


def relative(down: Tensor, across: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """What `models.relative.relative` says, on tensors of one CUDA device."""
    down, across, row, column = (part.contiguous() for part in (down, across, row, column))
    batch, heads, n, side = down.shape
    out = torch.empty(batch, heads, n, n, dtype=down.dtype, device=down.device)
    if out.numel():
        with on(out):
            _relative[batch * heads * n, triton.cdiv(n, SCAN)](
                down, across, row, column, out, heads, n, side, SCAN=SCAN
            )
    return out
