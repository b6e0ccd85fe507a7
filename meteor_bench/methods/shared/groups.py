"""Partitions of a row's tokens: carried to another grid, named by their first cells, averaged, and taken apart.

Everything works row by row, as in `methods.shared.helpers`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.gather import scatter_rows, take_rows
from meteor_bench.core.pruner import Layout, keep_top
from meteor_bench.core.rows import unit
from meteor_bench.core.tokens import Grid

__all__ = ["absorb", "leaders", "on_grid", "split_groups"]


def absorb(x: Tensor, size: Tensor, into: Tensor) -> Tensor:
    """[B, N, D] float32 with each token the size-weighted mean of all tokens that end in it (zero if none does).

    Args:
        x: [B, N, D].
        size: [B, N] weights.
        into: [B, N] long, the token that each one ends in (itself if it stays), -1 to leave it out.
    """
    weight = size.float().masked_fill(into < 0, 0.0)
    slot = into.clamp(min=0)
    total = scatter_rows(x.float() * weight[..., None], slot)
    mass = torch.zeros_like(weight).scatter_add(1, slot, weight)
    return total / mass.clamp(min=1e-12)[..., None]


def on_grid(group: Tensor, layout: Layout, tower: str, grid: Grid) -> Tensor:
    """[B, G] group of each cell of a tower -> [B, N] group of the nearest cell, for each cell of ``grid``."""
    source = layout.grids[tower]
    if tower in layout.cells:
        return group[:, layout.cells[tower]]
    if source == grid:
        return group
    t, h, w = grid
    cell = torch.arange(grid.n, device=group.device)
    frame = cell // (h * w) * source.t // t
    row = (2 * (cell // w % h) + 1) * source.h // (2 * h)
    col = (2 * (cell % w) + 1) * source.w // (2 * w)
    return group[:, (frame * source.h + row) * source.w + col]


def leaders(group: Tensor, labels: int) -> Tensor:
    """[B, N] labels 0, 1, … labels - 1 -> [B, N] index of the first cell with the same label."""
    own = torch.arange(group.shape[1], device=group.device).expand_as(group)
    first = torch.full((group.shape[0], labels), group.shape[1], dtype=torch.long, device=group.device)
    return first.scatter_reduce(1, group, own, reduce="amin").gather(1, group)


def split_groups(x: Tensor, into: Tensor, missing: Tensor) -> Tensor:
    """[B, N] the partition with ``missing`` [B] (on the CPU) cells made independent, least alike first."""
    if not bool((missing > 0).any()):
        return into
    own = torch.arange(into.shape[1], device=into.device)
    member = into != own
    mean = absorb(x, torch.ones_like(into, dtype=torch.float32), into)  # [B, N, D], at the leaders
    mean = take_rows(mean, into)
    apart = 1 - (unit(x) * unit(mean)).sum(-1)
    return torch.where(keep_top(apart, missing, member), own, into)
