"""Tokens seen from the cells of the unpruned grid: what the token that stands for each of them says or holds."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import made_once, on_device
from meteor_bench.core.seats import seen
from meteor_bench.core.tokens import Tokens, worked_out

__all__ = ["densify", "on_cells"]


def on_cells(tokens: Tokens, values: Tensor) -> Tensor:
    """[B, grid.n] the value [B, N] of the token that stands for each cell, -inf where the cell was dropped."""
    values = values.float()
    if tokens.whole:
        return values
    b, cells = tokens.group.shape
    table = torch.full((b, cells + 1), -torch.inf, device=values.device)  # the extra column takes what is no cell's
    if tokens.plain:
        table.scatter_(1, tokens.origin, values)
    else:
        table.scatter_(1, tokens.origin % (cells + 1), values.masked_fill(~tokens.visual, -torch.inf))
    return table.gather(1, tokens.group % (cells + 1))


def densify(tokens: Tokens) -> Tensor:
    """[B, grid.n, D] features of every cell of the unpruned grid.

    A merged cell takes its group's features; a dropped one those of the nearest surviving cell of the same frame
    (Euclidean distance between cells, ties to the lower index).
    """
    if tokens.whole:
        return tokens.x
    if (known := seen(tokens)) is not None:
        return take_rows(tokens.x, worked_out(known.index))
    b, cells = tokens.group.shape
    frame, t = tokens.grid.h * tokens.grid.w, tokens.grid.t
    slots = torch.full((b, cells + 1), -1, dtype=torch.long, device=tokens.x.device)
    own = torch.arange(tokens.x.shape[1], device=tokens.x.device).expand_as(tokens.origin)
    slots.scatter_(1, torch.where(tokens.visual, tokens.origin, cells), own)
    alive = tokens.group >= 0
    slot = slots.gather(1, tokens.group.clamp(min=0))
    # Whether any cell was dropped at all would cost a wait to know.
    distance = _distances(tokens.grid.h, tokens.grid.w, tokens.x.device)  # [frame, frame]
    for f in range(t):
        part = slice(f * frame, (f + 1) * frame)
        nearest = distance.masked_fill(~alive[:, None, part], torch.inf).argmin(-1)  # [B, frame]
        slot[:, part] = torch.where(alive[:, part], slot[:, part], slot[:, part].gather(1, nearest))
    return take_rows(tokens.x, slot)


@made_once(16)
def _distances(height: int, width: int, device: torch.device) -> Tensor:
    """[h·w, h·w] Euclidean distances between cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], -1).float()
    return on_device(torch.cdist(place, place), device)
