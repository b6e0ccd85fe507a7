"""Some of the tokens of each row, or some of the rows: everything that is known of them goes with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device, places, trues, upload
from meteor_bench.core.rows import ordered
from meteor_bench.core.tokens import Later, Length, Tokens, worked_out

__all__ = ["at_places", "indices", "kept_places", "pick", "rows_of"]


def pick(
    tokens: Tokens, keep: Tensor, order: Tensor | None = None, lengths: tuple[Length, ...] | None = None
) -> Tokens:
    """The chosen tokens of each row, compacted to the left; rows that are shorter are padded on the right.

    Args:
        order: [B, N] sort keys of the chosen ones; None: sequence order.
        lengths: how many they are, where that is known; None: the device is asked.
    """
    if lengths is None and keep is tokens.visual:
        lengths = tuple(Length(row.visual, 0) for row in tokens.host)
    if lengths is None and keep is tokens.valid:
        lengths = tokens.host
    if lengths is None:
        special = (keep & tokens.special).sum(1)
        lengths = tuple(Length(*row) for row in torch.stack([keep.sum(1) - special, special], 1).tolist())
    counts = [row.all for row in lengths]
    least, most = (min(counts), max(counts)) if counts else (0, 0)
    index = indices(keep, order, least, most)
    deep = None if tokens.deep is None else take_rows(tokens.deep, index)
    out = at_places(tokens, index, lengths, take_rows(tokens.x, index), deep)
    out = out.changed(raster=tokens.raster and order is None)
    if least == most:
        return out
    return _masked(out, places(most, keep.device) < upload(counts, keep.device)[:, None])


def indices(keep: Tensor, order: Tensor | None, least: int, most: int) -> Tensor:
    """[B, most] indices of the kept ones, from ``least`` on in a row, in the order of their keys.

    What stands behind them in shorter rows is of no use.

    Args:
        order: [B, N] sort keys; None: sequence order.
    """
    if order is None:
        return kept_places(keep, most, ragged=least < most)
    last = torch.inf if order.is_floating_point() else torch.iinfo(order.dtype).max
    return ordered(torch.where(keep, order, last), False)[:, :most]


def at_places(
    tokens: Tokens, index: Tensor, lengths: tuple[Length, ...], x: Tensor, deep: Tensor | None = None
) -> Tokens:
    """The tokens at some indices [B, K], with the features [B, K, D] that they have there, as rows without padding."""
    out = tokens.changed(
        x=x,
        deep=deep,
        valid=Later(partial(trues, len(index), index.shape[1], index.device)),
        **{name: _picked(tokens.raw(name), index) for name in ("origin", "special", "size", "slot")},
        lengths=lengths,
        in_windows=None,
    )
    if any(row.special for row in lengths):
        return out
    return out.changed(special=Later(lambda: torch.zeros_like(index, dtype=torch.bool)))


def kept_places(keep: Tensor, most: int, *, ragged: bool) -> Tensor:
    """[B, most] indices of the kept ones, ascending; what stands behind them in shorter rows is of no use."""
    if ragged:
        return ordered(keep, True)[:, :most]
    return torch.nonzero_static(keep, size=len(keep) * most)[:, 1].view(len(keep), most)


def _picked(field: Any, index: Tensor) -> Later[Tensor] | None:
    return None if field is None else Later(lambda: worked_out(field).gather(1, index))


def _masked(tokens: Tokens, valid: Tensor) -> Tokens:
    """The tokens with everything else made padding."""

    def blanked(name: str, by: int) -> Later[Tensor] | None:
        field = tokens.raw(name)
        return None if field is None else Later(lambda: worked_out(field).masked_fill(~valid, by))

    return tokens.changed(
        x=tokens.x.masked_fill(~valid[..., None], 0),
        deep=None if tokens.deep is None else tokens.deep.masked_fill(~valid[..., None], 0),
        valid=valid,
        origin=blanked("origin", -1),
        special=blanked("special", 0),
        size=blanked("size", 0),
        slot=blanked("slot", -1),
    )


def rows_of(tokens: Tokens, rows: Tensor) -> Tokens:
    """The given rows of a batch (repeats allowed).

    Args:
        rows: [Q] long; on the CPU where lengths are to stay known to the host.
    """
    known = tokens.lengths if rows.device.type == "cpu" else None
    rows_there = on_device(rows, tokens.x.device)

    def taken(name: str) -> Later[Tensor] | None:
        field = tokens.raw(name)
        return None if field is None else Later(lambda: worked_out(field)[rows_there])

    return tokens.changed(
        x=tokens.x[rows_there],
        deep=None if tokens.deep is None else tokens.deep[rows_there],
        **{name: taken(name) for name in ("valid", "origin", "special", "size", "group", "slot")},
        lengths=None if known is None else tuple(known[row] for row in rows.tolist()),
    )
