"""What stands still in a run of frames: its positions averaged over them, and how many tokens that leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.host import on_device
from meteor_bench.methods.shared.groups import absorb, split_groups

__all__ = ["Still", "averaged", "still_of", "undone"]


class Still(NamedTuple):
    """One clip with static positions, as the host knows it.

    Attributes:
        leader: [F·P] long, for a static cell the one at its position in the first frame of its run, else itself.
        moving: [F, P] bool, tokens that are not static.
        heads: for each run, the cells that its averaged tokens stand in.
        length: [F·P] how many frames a cell is averaged over, 1 where it moves.
    """

    leader: Tensor
    moving: Tensor
    heads: list[Tensor]
    length: Tensor

    @property
    def caps(self) -> Tensor:
        """[F + runs] tokens that move in each frame, then averaged ones of each run."""
        return torch.cat([self.moving.sum(1), torch.tensor([len(at) for at in self.heads])])


def still_of(known: Tensor, runs: Sequence[range], static: Sequence[Tensor]) -> Still:
    """A clip's still parts.

    Args:
        known: [F, P] bool on the CPU, tokens that are there.
        static: for each run [P] bool on the CPU; what is static is there in all its frames. Lone frames have nothing.
    """
    frames, cells = known.shape
    still = torch.zeros(frames, cells, dtype=torch.bool)
    leader = torch.arange(frames * cells).view(frames, cells)
    length = torch.ones(frames, cells)
    heads = []
    for run, here in zip(runs, static, strict=True):
        part = slice(run[0], run[-1] + 1)
        still[part] = here
        leader[part] = torch.where(here, leader[run[0]], leader[part])
        length[part] = torch.where(here, float(len(run)), length[part])
        heads.append(here.nonzero()[:, 0] + run[0] * cells)
    return Still(leader.flatten(), known & ~still, heads, length.flatten())


def averaged(x: Tensor, still: Still) -> tuple[Tensor, Tensor]:
    """[F·P, D] with the averaged tokens at the heads, and [F·P] the leaders, both on the features' device."""
    into = on_device(still.leader, x.device)
    return absorb(x[None], torch.ones(1, len(x), device=x.device), into[None])[0], into


def undone(x: Tensor, still: Still, total: int) -> Tensor:
    """[F·P] leaders where those least like their mean stand alone again, so that ``total`` tokens are left."""
    into = on_device(still.leader, x.device)
    return split_groups(x[None], into[None], torch.tensor([total - int(still.caps.sum())]))[0]
