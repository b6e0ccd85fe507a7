"""Tokens seen from the cells of the unpruned grid: what the token that stands for each of them says or holds."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import places
from meteor_bench.core.seats import seen
from meteor_bench.core.standing import standing
from meteor_bench.core.tokens import Tokens, worked_out

__all__ = ["densify", "on_cells"]


def on_cells(tokens: Tokens, values: Tensor) -> Tensor:
    """[B, grid.n] the value [B, N] of the token that stands for each cell, -inf where the cell was dropped."""
    values = values.float()
    if tokens.whole:
        return values
    b, cells = len(values), tokens.grid.n
    table = torch.full((b, cells + 1), -torch.inf, device=values.device)  # the extra column takes what is no cell's
    if tokens.plain:
        table.scatter_(1, tokens.origin, values)
    else:
        table.scatter_(1, tokens.origin % (cells + 1), values.masked_fill(~tokens.visual, -torch.inf))
    # Where nothing was merged, a cell that no token comes from was dropped.
    return table.gather(1, tokens.group % (cells + 1)) if tokens.merged else table[:, :cells]


def densify(tokens: Tokens) -> Tensor:
    """[B, grid.n, D] features of every cell of the unpruned grid.

    A merged cell takes its group's features; a dropped one those of the nearest surviving cell of the same frame
    (Euclidean distance between cells, ties to the lower index).
    """
    if tokens.whole:
        return tokens.x
    if (known := seen(tokens)) is not None:
        return take_rows(tokens.x, worked_out(known.index))
    return take_rows(tokens.x, standing(tokens.origin, _stood_for(tokens), tokens.grid.h, tokens.grid.w))


def _stood_for(tokens: Tokens) -> Tensor:
    """[B, G] `Tokens.group`, or what says the same where nothing was merged and costs nothing."""
    if tokens.merged:
        return tokens.group
    return places(tokens.grid.n, tokens.x.device).expand(len(tokens.x), -1)
