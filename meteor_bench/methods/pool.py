"""pool: average pooling of the token grid before the language model, to exactly T tokens. A control.

The grid is cut into R = round(sqrt(T·h/w)) bands of rows and each band into floor(T/R) or ceil(T/R) cells; a cell's
tokens become their mean. Where T = h'·w' with h' dividing h and w' dividing w (and h'/w' = h/w) this is adaptive
average pooling. A clip's budget is split evenly over its frames, each pooled on its own.

Deviations: plain adaptive pooling reaches only products h'·w'; the bands make every budget exact. With fewer tokens
than frames, some frames are dropped. On an independent fusion the budget is split between the encoders in proportion
to their token counts. After another method, on a sequence that is no full grid any more, runs of the sequence are
pooled instead of cells. The mean carries the position of its first member into the renumbered sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, FuseView
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.groups import leaders
from meteor_bench.methods.shared.helpers import rank_of, round_half_up
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["Pool", "cells"]


def cells(index: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """The pooled cell that each token of a full grid belongs to.

    Args:
        index: [B, N] raster index in the grid.
        target: [B] long, cells wanted, at most ``grid.n``.

    Returns:
        [B, N] long in [0, target); -1 for the tokens of a frame that gets no cell. Every cell has a member.
    """
    t, h, w = grid
    frame, row, col = index // (h * w), index // w % h, index % w  # [B, N] each
    target = target[:, None]
    first = frame * target // t  # cells of the frames before
    cut = (frame + 1) * target // t - first  # cells of this frame
    few = (cut + w - 1) // w  # bands needed so that no cell is narrower than a token
    bands = round_half_up(torch.sqrt(cut.double() * h / w))
    bands = torch.minimum(torch.maximum(bands, few), torch.clamp(cut, max=h)).clamp(min=1)
    band = row * bands // h
    start = band * cut // bands
    wide = (band + 1) * cut // bands - start  # cells in this band
    return torch.where(cut > 0, first + start + col * wide // w, -torch.ones_like(index))


@dataclass(frozen=True)
class Pool(FuseChooser):
    """Adaptive average pooling with an exact budget, positions renumbered."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control")
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Cells of each sequence's grid."""
        tokens = view.tokens
        device = tokens.x.device
        share = torch.minimum(share, tokens.counts())
        if tokens.whole:  # then the host knows it all
            index = torch.arange(tokens.grid.n).expand(len(share), -1)
            into = on_device(_absorbers(cells(index, share, tokens.grid), share[:, None] > 0), device)
            own = torch.arange(tokens.grid.n, device=device)
            return Decision(keep=into == own, merge_into=into, count=share)
        visual, held = tokens.visual, share
        share, count = on_device(share, device), on_device(tokens.counts(), device)
        full = (count == tokens.grid.n)[:, None]
        place = rank_of(visual).clamp(min=0)
        runs = place * share[:, None] // count.clamp(min=1)[:, None]
        cell = torch.where(full, cells(tokens.origin.clamp(min=0), share, tokens.grid), runs)
        into = _absorbers(cell, visual & (share > 0)[:, None])
        own = torch.arange(into.shape[1], device=device)
        return Decision(keep=visual & (into == own), merge_into=into, count=held)


def _absorbers(cell: Tensor, real: Tensor) -> Tensor:
    """[B, N] the first member of each token's cell [B, N], which absorbs the others; -1 for what is not ``real``."""
    n = cell.shape[1]
    cell = torch.where(real & (cell >= 0), cell, n)  # a cell of its own for what belongs to none
    return torch.where(cell < n, leaders(cell, n + 1), -1)
