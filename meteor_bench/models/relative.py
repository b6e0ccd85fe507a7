"""Decomposed relative positions among some of a square's cells: what is known of those, and the sum of both parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.host import made_once, on_device

__all__ = ["Relative", "apart", "relative"]


class Relative(NamedTuple):
    """Cells [B, S] of squares of ``side`` x ``side``.

    Attributes:
        side: of the square.
        row, column: [B, S] long.
        down, across: [B, S, side] long, from 0: the distance from each to every row and column.
    """

    side: int
    row: Tensor
    column: Tensor
    down: Tensor
    across: Tensor

    @classmethod
    def of(cls, cell: Tensor, side: int) -> Relative:
        """Of cells [B, S] in raster order."""
        row, column = cell // side, cell % side
        return cls(side, row, column, *(apart(side, cell.device)[place] for place in (row, column)))


@made_once(16)
def apart(side: int, device: torch.device) -> Tensor:
    """[side, side] distance between a query and a key, from 0."""
    at = torch.arange(side)
    return on_device(at[:, None] - at + side - 1, device)


def _relative(down: Tensor, across: Tensor, row: Tensor, column: Tensor) -> Tensor:
    shape = (*down.shape[:3], row.shape[1])
    parts = (part.gather(3, at[:, None, None].expand(shape)) for part, at in ((down, row), (across, column)))
    return next(parts) + next(parts)


def _trial() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    down, across = (torch.randn(2, 3, 5, 4, generator=draw) for _ in range(2))
    row, column = torch.tensor([[[0, 3, 1, 1, 2], [2, 2, 0, 3, 1]], [[3, 0, 1, 2, 2], [0, 0, 1, 3, 3]]])
    return down, across, row, column


relative = Fused(
    _relative,
    "(Tensor down, Tensor across, Tensor row, Tensor column) -> Tensor",
    "meteor_bench.models.relative_triton",
    _trial,
)
"""[B, H, S, S] the sum of what each query gives the row and the column of each key.

Args:
    down, across: [B, H, S, side]; row, column: [B, S] long, of each token.
"""
