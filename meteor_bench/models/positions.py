"""Position tables for pruned and merged tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["add_positions", "resize_table"]


def resize_table(table: Tensor, native: Grid, grid: Grid) -> Tensor:
    """A [native.n, D] table for another grid of as many frames, by area interpolation: [grid.n, D]."""
    if grid == native:
        return table
    planes = table.reshape(native.t, native.h, native.w, -1).permute(0, 3, 1, 2)
    resized = interpolate(planes.float(), size=(grid.h, grid.w), mode="area").to(table.dtype)
    return resized.permute(0, 2, 3, 1).reshape(grid.n, -1)


def add_positions(tokens: Tokens, table: Tensor) -> Tokens:
    """Add each token's row of ``table`` [G, D]; a merged token gets the mean over the cells it stands for."""
    if not tokens.merged:
        rows = table if tokens.whole else table[tokens.origin.clamp(min=0)]
        return tokens.with_x(tokens.x + (rows * tokens.valid[..., None] if tokens.padded else rows))
    b, cells = tokens.group.shape
    slot = torch.where(tokens.group >= 0, tokens.group, cells)
    total = table.new_zeros(b, cells + 1, table.shape[1])
    total.scatter_add_(1, slot[..., None].expand(-1, -1, table.shape[1]), table.expand(b, -1, -1))
    count = table.new_zeros(b, cells + 1).scatter_add_(1, slot, table.new_ones(b, cells))
    mean = total / count.clamp(min=1)[..., None]
    rows = mean.gather(1, tokens.origin.clamp(min=0)[..., None].expand(-1, -1, table.shape[1]))
    return tokens.with_x(tokens.x + rows * tokens.valid[..., None])
