"""Which token stands for each cell of the unpruned grid, the nearest one where it was dropped: two kernels on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.host import made_once, on_device, places

__all__ = ["standing"]


def _standing(origin: Tensor, group: Tensor, height: int, width: int) -> Tensor:
    (b, cells), frame = group.shape, height * width
    # The extra column takes what is no cell's, and keeps nobody.
    slots = torch.full((b, cells + 1), -1, dtype=torch.long, device=origin.device)
    slots.scatter_(1, origin % (cells + 1), places(origin.shape[1], origin.device).expand_as(origin))
    slots[:, cells] = -1
    slot = slots.gather(1, group % (cells + 1))
    alive = slot >= 0
    # Whether any cell was dropped at all would cost a wait to know.
    distance = _distances(height, width, origin.device)  # [frame, frame]
    for start in range(0, cells, frame):
        part = slice(start, start + frame)
        nearest = distance.masked_fill(~alive[:, None, part], torch.inf).argmin(-1)  # [B, frame]
        slot[:, part] = torch.where(alive[:, part], slot[:, part], slot[:, part].gather(1, nearest))
    return slot


@made_once(16)
def _distances(height: int, width: int, device: torch.device) -> Tensor:
    """[h·w, h·w] Euclidean distances between cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], -1).float()
    return on_device(torch.cdist(place, place), device)


def _trial() -> tuple[Tensor, Tensor, int, int]:
    origin = torch.tensor([[-1, 0, 2, 5, 10], [-1, 3, 8, 4, 9]])
    group = torch.tensor([[0, 0, 2, -1, -1, 5, -1, -1, -1, -1, 10, 10], [-1, 3, -1, 3, 4, -1, -1, 9, 8, 9, -1, -1]])
    return origin, group, 2, 3


standing = Fused(
    _standing,
    "(Tensor origin, Tensor group, SymInt height, SymInt width) -> Tensor",
    "meteor_bench.core.standing_triton",
    _trial,
)
"""[B, G] long, the token that stands for each cell; of a dropped cell that of the nearest one of its frame that has one
(Euclidean distance between cells, ties to the lower index).

Args:
    origin: [B, N] long, `Tokens.origin`.
    group: [B, G] long, `Tokens.group`, of frames of height·width cells; where nothing was merged each cell's own index
        does as well, because a cell is then dropped where no token comes from it.
"""
