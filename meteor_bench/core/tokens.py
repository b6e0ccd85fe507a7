"""Batches of visual tokens with everything that pruning has to keep track of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Block", "Grid", "Tokens"]


class Grid(NamedTuple):
    """Extent of an unpruned token grid: t frames or tiles, h rows, w columns."""

    t: int
    h: int
    w: int

    @property
    def n(self) -> int:
        """Number of cells."""
        return self.t * self.h * self.w


@dataclass(frozen=True)
class Tokens:
    """A padded batch of token sequences.

    Attributes:
        x: [B, N, D] features.
        valid: [B, N] bool, False where a row is padding.
        origin: [B, N] long, index of the token in the unpruned grid (raster order), -1 for special tokens and
            padding. A merged token carries the origin of the token it was merged into.
        special: [B, N] bool, class and register tokens, in the language model newlines and separators: never pruned,
            not counted as visual tokens.
        size: [B, N] number of unpruned tokens that a token stands for (1 unless merged).
        group: [B, G] long, for each cell of the unpruned grid the origin of the token that stands for it now,
            -1 where the cell was dropped. G = grid.n.
        grid: extent of the unpruned grid.
        slot: [B, N] long, place in the unpruned visual block of the language model (newlines and separators have one
            too), -1 for padding; None before the tokens stand in that block, or where it is nothing but the grid.
    """

    x: Tensor
    valid: Tensor
    origin: Tensor
    special: Tensor
    size: Tensor
    group: Tensor
    grid: Grid
    slot: Tensor | None = None

    @classmethod
    def dense(cls, x: Tensor, grid: Grid, specials: int = 0) -> Tokens:
        """Tokens of an unpruned grid; the first ``specials`` tokens of each row are special.

        Args:
            x: [B, specials + grid.n, D].
        """
        b, n, _ = x.shape
        cells = torch.arange(grid.n, device=x.device)
        origin = torch.cat([cells.new_full((specials,), -1), cells]).expand(b, n)
        special = origin < 0
        return cls(
            x=x,
            valid=torch.ones_like(special),
            origin=origin,
            special=special,
            size=torch.ones(b, n, device=x.device),
            group=cells.expand(b, grid.n),
            grid=grid,
        )

    # Asked for again and again at every pruning point; each is worked out once.
    @cached_property
    def visual(self) -> Tensor:
        """[B, N] bool, True for the tokens that a method may keep or drop."""
        return self.valid & ~self.special

    @cached_property
    def _counts(self) -> Tensor:
        return self.visual.sum(1)

    def counts(self) -> Tensor:
        """[B] number of visual tokens in each row."""
        return self._counts

    @cached_property
    def padded(self) -> bool:
        """Whether any row holds padding (then every attention needs a mask)."""
        return not bool(self.valid.all())

    def with_x(self, x: Tensor) -> Tokens:
        """The same tokens with other features [B, N, D']."""
        return replace(self, x=x)


@dataclass(frozen=True)
class Block:
    """An unpruned visual block of L slots, the same for every sample of its shape.

    Attributes:
        slots: [G] long, the slot of each cell of the visual tokens' grid, ascending.
        special: [S, D] embeddings of the special tokens.
        special_slots: [S] long, ascending.
        positions: [L] or [L, A] position ids of the slots, from 0; None: the slot's own index.
        span: what the block adds to the position ids of the text behind it; None: L.
    """

    slots: Tensor
    special: Tensor
    special_slots: Tensor
    positions: Tensor | None = None
    span: int | None = None

    @property
    def length(self) -> int:
        """L."""
        return len(self.slots) + len(self.special_slots)
