"""A merge said by where every token stands afterwards: one tensor in place of masks, destinations and sort keys."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.ends import followed
from meteor_bench.core.host import places
from meteor_bench.core.tokens import Later, Tokens, worked_out

__all__ = ["Seats", "Seen", "seen"]


class Seats(NamedTuple):
    """Where tokens stand after a merge, in rows of equally many tokens that keep equally many.

    Attributes:
        places: [B, N] long, for a token that stays its place afterwards; for one that ends in another ``~`` (that is,
            -1 minus) that one's place.
        left: how many stay in each row.
        ordered: whether those that stay keep their order.
        heads: special tokens, which stand first (`Tokens.heads`), stay there and take in nobody; all others are visual.
    """

    places: Tensor
    left: int
    ordered: bool
    heads: int = 0

    def keep(self) -> Tensor:
        """[B, N] bool, those that stay."""
        return self.places >= 0

    def into(self) -> Tensor | None:
        """[B, N] long, never None, the index of the token that each one ends in."""
        rows, n = self.places.shape
        own = places(n, self.places.device).expand(rows, n)
        stay = torch.where(self.keep(), self.places, self.left)
        before = self.places.new_empty(rows, self.left + 1).scatter_(1, stay, own)
        return before.gather(1, torch.maximum(self.places, ~self.places))

    def order(self) -> Tensor | None:
        """[B, N] long, sort keys of those that stay; None where they keep their order."""
        return None if self.ordered else self.places.clamp(min=0)


class Seen(Later[Tensor]):
    """`Tokens.group` of cells that all have a token, known by where that token stands.

    Attributes:
        origin: of the tokens that it is about, perhaps not worked out yet; of others it says nothing.
        index: [B, G] long, the token that stands for each cell, perhaps not worked out yet.
    """

    __slots__ = ("index", "origin")

    def __init__(self, origin: Any, index: Any) -> None:
        super().__init__(partial(_groups, origin, index))
        self.origin, self.index = origin, index

    def moved(self, origin: Any, seats: Seats) -> Seen:
        """The same after a merge that left tokens with these origins."""
        return Seen(origin, Later(partial(_led, self.index, seats.places)))


def seen(tokens: Tokens) -> Seen | None:
    """Where the token of each cell stands; None where that is not known so, or a cell may have none."""
    origin, group = tokens.raw("origin"), tokens.raw("group")
    if isinstance(group, Seen) and group.origin is origin:
        return group
    if tokens.whole:
        return Seen(origin, None)
    heads, cells = tokens.heads, tokens.grid.n
    if heads is None or not tokens.raster or tokens.x.shape[1] != heads + cells:
        return None
    return Seen(origin, places(heads + cells, tokens.x.device)[heads:].expand(len(tokens.x), cells))


def _groups(origin: Any, index: Any) -> Tensor:
    value: Tensor = worked_out(origin)
    return value if index is None else value.gather(1, worked_out(index))


def _led(index: Any, seats: Tensor) -> Tensor:
    """[B, G] where the token at each index [B, G] (None: each cell's own) ends."""
    return torch.maximum(seats, ~seats) if index is None else followed(seats, worked_out(index))
