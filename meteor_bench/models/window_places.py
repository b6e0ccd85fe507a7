"""Places of tokens in the windows of a grid, as one operation of two kernels on a GPU.

A window has S places: first its tokens in raster order, then as many of its own padding cells as there are to be, then
places with nobody.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.host import made_once, on_device, places
from meteor_bench.core.rows import ranks
from meteor_bench.core.tokens import Grid

__all__ = ["Cells", "Placed", "in_places", "known_cells", "padding_cells", "placed"]


class Cells(NamedTuple):
    """What is known of each cell of a grid, made once; behind the last one, where -1 leads, of padding.

    Attributes:
        window: [G + 1] long, the index of its window, -1 for padding.
        counted: [G + 1] the same, but for padding one of its own.
        inner: [G + 1] long, its place in its window, raster order.
        early: [G + 1] float32, higher for cells that come first, by window and then in raster order.
        padding: [W, P] long, see `padding_cells`.
    """

    window: Tensor
    counted: Tensor
    inner: Tensor
    early: Tensor
    padding: Tensor


@made_once(16)
def known_cells(grid: Grid, side: int, device: torch.device) -> Cells:
    """The cells of a grid that is cut into windows of ``side`` x ``side``."""
    cell = torch.arange(grid.n)
    y, x = cell // grid.w, cell % grid.w
    across, down = -(-grid.w // side), -(-grid.h // side)
    window, inner = y // side * across + x // side, y % side * side + x % side
    early = -(window * side**2 + inner).float()
    last = (-1, across * down, 0, -torch.inf)
    each = zip((window, window, inner, early), last, strict=True)
    tables = [torch.cat([values, values.new_tensor([end])]) for values, end in each]
    return Cells(*(on_device(table, device) for table in (*tables, padding_cells(grid, side))))


@lru_cache(maxsize=16)
def padding_cells(grid: Grid, side: int) -> Tensor:
    """[W, P] the cells of each window that lie behind the grid's edge, raster order, filled up with -1."""
    down, across = -(-grid.h // side), -(-grid.w // side)
    y, x = torch.arange(down * side), torch.arange(across * side)
    outside = (y[:, None] >= grid.h) | (x[None] >= grid.w)
    cells = outside.reshape(down, side, across, side).transpose(1, 2).reshape(-1, side**2)
    most = max(1, int(cells.sum(1).max()))
    order = (~cells).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    return torch.where(cells.gather(1, order), order, -1)


class Placed(NamedTuple):
    """Who is where.

    Attributes:
        place: [R, N] long, a token's place in [W·S]; padding's is W·S.
        token: [R, W·S] long, the token at a place, 0 where there is none.
        cell: [R, W·S] long, the place's cell in its window, 0 where nothing is.
    """

    place: Tensor
    token: Tensor
    cell: Tensor


def _in_places(
    origin: Tensor,
    known: Tensor,
    counted: Tensor,
    inner: Tensor,
    early: Tensor,
    padding: Tensor,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    windows, most = padding.shape
    begins, there, more = torch.split(known, [windows + 1, windows, windows], 1)
    place = ranks.plain(early[origin]) + begins.gather(1, counted[origin])  # by window, raster order within
    place = place.clamp(max=windows * width)
    cell = _at(place, inner[origin], windows * width)
    beyond = places(width, origin.device) - there[..., None]  # [R, W, S] the how manieth padding cell
    filler = (beyond >= 0) & (beyond < more[..., None])
    fill = padding.expand(len(origin), -1, -1).gather(2, beyond.clamp(0, most - 1))
    cell = torch.where(filler, fill, cell.view_as(fill)).flatten(1)
    token = _at(place, places(origin.shape[1], origin.device).expand_as(place), windows * width)
    return place, token, cell


def _at(place: Tensor, values: Tensor, count: int) -> Tensor:
    """[R, count] with ``values`` at ``place``, zeros elsewhere; what lies behind the last is dropped."""
    out = torch.zeros(len(place), count + 1, dtype=values.dtype, device=values.device)
    return out.scatter_(1, place, values)[:, :-1].contiguous()


def _trial() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int]:
    tables = known_cells(Grid(1, 3, 5), 2, torch.device("cpu"))  # six windows, four of them cut off
    origin = torch.tensor([[0, 1, 4, 6, 9, 13], [14, 2, 3, 7, -1, -1]])
    counts = torch.tensor([[3, 0, 2, 0, 1, 0], [0, 3, 0, 0, 0, 1]])
    start = 4 * torch.arange(7) - torch.cat([counts.cumsum(1) - counts, counts.sum(1, keepdim=True)], 1)
    more = torch.tensor([[0, 0, 1, 2, 1, 3], [0, 0, 2, 1, 0, 2]])
    return origin, torch.cat([start, counts, more], 1), *tables[1:], 4


in_places = Fused(
    _in_places,
    "(Tensor origin, Tensor known, Tensor counted, Tensor inner, Tensor early, Tensor padding, SymInt width)"
    " -> (Tensor, Tensor, Tensor)",
    "meteor_bench.models.window_places_triton",
    _trial,
)
"""The fields of `Placed`.

Args:
    origin: [R, N] long, `Tokens.origin`.
    known: [R, 3·W + 1] long: what is added to a token's rank among all to get its place, for each window and for
        padding; tokens in each window; padding cells in each.
    counted, inner, early, padding: of `Cells`.
    width: S.
"""


def placed(origin: Tensor, known: Tensor, cells: Cells, width: int) -> Placed:
    """See `in_places`."""
    return Placed(*in_places(origin, known, *cells[1:], width))
