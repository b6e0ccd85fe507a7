"""Carrying out decisions: what is kept, merged, mixed or brought back, and whom every cell belongs to afterwards."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.decision import Decision, Restored
from meteor_bench.core.gather import scatter_rows, take_rows
from meteor_bench.core.host import places, trues
from meteor_bench.core.pick import pick
from meteor_bench.core.rows import merged
from meteor_bench.core.seats import Seats, seen
from meteor_bench.core.tokens import Later, Length, Tokens, worked_out

__all__ = ["apply"]


def apply(tokens: Tokens, decision: Decision) -> Tokens:
    """Tokens after a decision: kept tokens in order, padded on the right, merges carried out, others brought back."""
    left = _applied(tokens, decision)
    return left if decision.restored is None else _with(left, decision.restored)


def _applied(tokens: Tokens, decision: Decision) -> Tokens:
    """What a decision leaves of the tokens that are there."""
    if decision.seats is not None:
        return _seated(tokens, decision.seats).changed(in_windows=decision.in_windows)
    idle = decision.mix is None and decision.order is None
    if idle and decision.keep is tokens.visual:
        return tokens
    keep = decision.keep
    if not tokens.plain:
        keep = keep & tokens.visual
    left = _left(tokens, decision, keep)
    if idle and left == tokens.host:
        return tokens
    if any(row.special for row in left):
        keep = keep | (tokens.special & tokens.valid)
    order = decision.order
    if order is not None and not tokens.plain:
        order = order.masked_fill(tokens.special, -1)
    x, deep, size = tokens.x, tokens.deep, tokens.raw("size")
    into: Tensor | None = None
    if decision.merge_into is not None:
        total = decision.total and tokens.plain
        into = decision.merge_into if total else _destinations(tokens, keep, decision.merge_into)
        gone = None if total else into < 0
        slot = into if gone is None else into.clamp(min=0)
        own = tokens.size if gone is None else tokens.size.masked_fill(gone, 0)
        size = torch.zeros_like(own).scatter_add_(1, slot, own)
        if decision.mix is None:
            x = _merged(x, tokens, keep, slot, gone, size, decision)
            deep = None if deep is None else _merged(deep, tokens, keep, slot, gone, size, decision)
    if decision.mix is not None:
        x = _mixed(x, tokens, keep, decision.mix)
        deep = None if deep is None else _mixed(deep, tokens, keep, decision.mix)
    # Not the tokens themselves, whose features would live on.
    bare = _Grouped(tokens.raw("origin"), tokens.raw("group"), tokens.plain, tokens.whole)
    group = Later(partial(_regrouped, bare, keep, into))
    merged = tokens.merged or into is not None
    out = pick(tokens.changed(x=x, deep=deep, size=size, group=group, merged=merged), keep, order, left)
    return out.changed(in_windows=decision.in_windows)


def _seated(tokens: Tokens, seats: Seats) -> Tokens:
    """What a merge by places leaves; special tokens stand first and stay there."""
    x, size, stay = merged(tokens.x, tokens.size, seats.places, seats.left)
    deep = None if tokens.deep is None else merged(tokens.deep, tokens.size, seats.places, seats.left)[0]
    origin, known = Later(partial(_taken, tokens.raw("origin"), stay)), seen(tokens)
    if known is None:
        bare = _Grouped(tokens.raw("origin"), tokens.raw("group"), tokens.plain, tokens.whole)
        group = Later(lambda: _regrouped(bare, seats.keep(), seats.into()))
    else:
        group = known.moved(origin, seats)
    slot = tokens.raw("slot")
    return tokens.changed(
        x=x,
        deep=deep,
        size=size,
        valid=Later(partial(trues, len(stay), seats.left, stay.device)),
        special=Later(lambda: (places(seats.left, stay.device) < seats.heads).expand_as(stay)),
        origin=origin,
        group=group,
        slot=None if slot is None else Later(partial(_taken, slot, stay)),
        lengths=(Length(seats.left - seats.heads, seats.heads),) * len(stay),
        merged=True,
        raster=tokens.raster and seats.ordered,
    )


def _taken(field: Any, index: Tensor) -> Tensor:
    value: Tensor = worked_out(field).gather(1, index)
    return value


def _with(tokens: Tokens, restored: Restored) -> Tokens:
    """The tokens and those that come back, in the order of the grid behind the special ones."""
    back, cells = restored.cells, places(restored.cells.shape[1], restored.cells.device)
    found = (back.sum(1) if restored.count is None else restored.count).tolist()
    both = tokens.changed(
        x=torch.cat([tokens.x, restored.x.to(tokens.x.dtype)], 1),
        deep=None if tokens.deep is None else torch.cat([tokens.deep, _given(restored.deep).to(tokens.deep.dtype)], 1),
        valid=torch.cat([tokens.valid, back], 1),
        origin=torch.cat([tokens.origin, torch.where(back, cells, -1)], 1),
        special=torch.cat([tokens.special, torch.zeros_like(back)], 1),
        size=torch.cat([tokens.size, back.to(tokens.size.dtype)], 1),
        group=torch.where(back, cells, tokens.group),
        lengths=tuple(Length(row.visual + n, row.special) for row, n in zip(tokens.host, found, strict=True)),
    )
    return pick(both, both.valid, both.origin, both.lengths).changed(raster=True)


def _given(deep: Tensor | None) -> Tensor:
    assert deep is not None  # `core.decisions` has looked
    return deep


def _left(tokens: Tokens, decision: Decision, keep: Tensor) -> tuple[Length, ...]:
    """Tokens of each row after a decision; the device is asked where the decision does not say.

    Args:
        keep: [B, N] bool, the visual tokens kept.
    """
    if decision.keep is tokens.visual:
        return tokens.host
    found = (keep.sum(1) if decision.count is None else decision.count).tolist()
    return tuple(Length(min(n, row.visual), row.special) for n, row in zip(found, tokens.host, strict=True))


def _destinations(tokens: Tokens, keep: Tensor, merge_into: Tensor) -> Tensor:
    """[B, N] index of the token that each token ends in: itself, its absorber, or -1."""
    into = merge_into if tokens.plain else merge_into.masked_fill(~tokens.visual, -1)
    return torch.where(keep, places(keep.shape[1], keep.device), into)


def _merged(
    x: Tensor, tokens: Tokens, keep: Tensor, slot: Tensor, gone: Tensor | None, size: Tensor, decision: Decision
) -> Tensor:
    """[B, N, D] where every absorbing token holds its weighted sum or mean; others are untouched, bit for bit.

    Args:
        x: [B, N, D] of the tokens.
        slot: [B, N] the token that each one ends in, anything for those that are ``gone`` (None: none is).
        size: [B, N] of what each one has become.
    """
    weight = (tokens.size if decision.weight is None else decision.weight).float()
    weight = weight if gone is None else weight.masked_fill(gone, 0.0)
    total = scatter_rows(x.float() * weight[..., None], slot)
    if decision.weight is None:
        # Whoever has grown absorbs another; what the division makes of the others is not looked at.
        total, changed = total.div_(size.float()[..., None]), size > tokens.size
    elif decision.normalise:
        mass = torch.zeros_like(weight).scatter_add_(1, slot, weight)
        total.div_(mass.clamp_(min=1e-12)[..., None])
        sources = (~(keep if gone is None else gone | keep)).to(weight.dtype)
        changed = torch.zeros_like(weight).scatter_add_(1, slot, sources) > 0
    else:
        changed = keep & ~tokens.special
    return torch.where(changed[..., None], total.to(x.dtype), x)


def _mixed(x: Tensor, tokens: Tokens, keep: Tensor, mix: Tensor) -> Tensor:
    """``x`` [B, N, D] of the tokens, each kept visual one's replaced by its row of ``mix`` (rows in sequence order)."""
    if mix.shape[1] == 0:  # nothing survives in any row
        return x
    kept = keep & ~tokens.special
    rows = (mix.float() @ x.float()).to(x.dtype)  # [B, K, D]
    order = (kept.cumsum(1) - 1).clamp(min=0)
    return torch.where(kept[..., None], take_rows(rows, order), x)


class _Grouped(NamedTuple):
    """Fields of `Tokens`, the first two perhaps not worked out yet."""

    origin: Any
    group: Any
    plain: bool
    whole: bool


def _regrouped(before: _Grouped, keep: Tensor, into: Tensor | None) -> Tensor:
    """[B, G] group map after each token [B, N] has stayed, gone, or ended in the token ``into`` [B, N], -1 for none."""
    origin = worked_out(before.origin)
    if into is None:
        moved = torch.where(keep, origin, -1)
    else:
        moved = origin.gather(1, into.clamp(min=0)).masked_fill(into < 0, -1)
    if before.whole:
        return moved  # every cell is its token's
    group: Tensor = worked_out(before.group)
    cells = group.shape[1]
    # One extra column, to which -1 leads, takes the writes of special tokens and padding; it keeps its -1.
    table = torch.full((len(moved), cells + 1), -1, dtype=torch.long, device=moved.device)
    if before.plain:
        table.scatter_(1, origin, moved)
    else:
        table.scatter_(1, origin % (cells + 1), moved.masked_fill(origin < 0, -1))
    return table.gather(1, group % (cells + 1))
