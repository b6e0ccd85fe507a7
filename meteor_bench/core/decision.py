"""What a method answers at a point: which tokens stay, go or merge, and how much of that the host knows already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from meteor_bench.core.seats import Seats
from meteor_bench.core.tokens import Later, Lazy

__all__ = ["Decision", "Restored"]


@dataclass(frozen=True)
class Restored:
    """Tokens that come back into an encoder's sequences, each to its place in the grid, standing for its cell alone.

    Attributes:
        cells: [B, G] bool, whose tokens come back; no token stands for them before.
        x: [B, G, D] their features; what other cells have there does not matter.
        deep: [B, G, K·D] their part of `Tokens.deep`, where the tokens have one.
        count: [B] long on the CPU, how many come back, where the method knows; None: the device is asked.
    """

    cells: Tensor
    x: Tensor
    deep: Tensor | None = None
    count: Tensor | None = None


@dataclass(frozen=True)
class Decision:
    """What to do with one sequence. Special tokens are always kept, padding always dropped.

    Attributes:
        keep: [B, N] bool.
        merge_into: [B, N] long, for a token that is not kept the index of the kept token that absorbs it, -1 to
            discard it; ignored for kept tokens. None: everything not kept is discarded.
        weight: [B, N] weights of the merge; each absorbing token becomes sum(w·x) over itself and what it absorbs.
            None: the mean weighted by `Tokens.size`.
        normalise: divide by the sum of the weights (a mean), which are positive then. Ignored when ``weight`` is None.
        mix: [B, K, N] explicit linear map: the k-th kept token (in sequence order) becomes mix[k] @ x. Excludes
            `merge_into` as a source of features; `merge_into` then only says where a dropped token went.
        score: [B, N] what the decision was based on, higher is kept; for pictures, and from an encode point the fuse
            point gets it (`FuseView.scores`).
        order: [B, N] non-negative sort keys: kept tokens stand in their ascending order (ties: sequence order),
            special tokens first. None: sequence order.
        memo: encode and decode points: name -> [B, ...], handed to the method's later encode and decode points. An
            empty tensor frees what an earlier encode point left under its name; what is freed in time may be the CPU's.
        in_windows: [B, W] long on the CPU, how many of the kept tokens stand in each window of a windowed encoder,
            where the method knows that too.
        count: [B] long on the CPU, how many visual tokens each row keeps (more than it has: all of them), where the
            method knows without asking the device; None: the device is asked, which a GPU makes the host wait for.
        total: ``merge_into`` sends every visual token to a kept one, kept ones to themselves: nothing is discarded, and
            nobody has to look.
        restored: encode points: tokens dropped before that come back, after everything else that is decided here.
        seats: a merge weighted by `Tokens.size`, said by places; see `Decision.seated`.
    """

    keep: Lazy[Tensor] = Lazy()
    merge_into: Lazy[Tensor | None] = Lazy(optional=True)
    weight: Tensor | None = None
    normalise: bool = True
    mix: Tensor | None = None
    score: Tensor | None = None
    order: Lazy[Tensor | None] = Lazy(optional=True)
    memo: Mapping[str, Tensor] = field(default_factory=dict)
    count: Tensor | None = None
    in_windows: Tensor | None = None
    total: bool = False
    restored: Restored | None = None
    seats: Seats | None = None

    @classmethod
    def seated(cls, seats: Seats) -> Self:
        """A merge by size, said by places; the masks that it comes to are worked out if somebody looks at them.

        Args:
            seats: where every token ends.
        """
        count = torch.full((len(seats.places),), seats.left - seats.heads)
        keep, into, order = Later(seats.keep), Later(seats.into), Later(seats.order)
        return cls(keep=keep, merge_into=into, order=order, total=True, count=count, seats=seats)
