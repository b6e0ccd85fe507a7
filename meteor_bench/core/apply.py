"""Carrying out decisions: what is kept, merged, mixed or brought back, and whom every cell belongs to afterwards."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.decision import Decision, Restored
from meteor_bench.core.ends import merged, settled
from meteor_bench.core.gather import scatter_rows, take_rows
from meteor_bench.core.host import places, trues
from meteor_bench.core.pick import at_places, indices, pick
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
    ends: Later[_Ends] | None = None
    if decision.merge_into is not None:
        visual = None if tokens.plain else tokens.visual
        ends = Later(partial(_ends, keep, decision.merge_into, visual, decision.total and tokens.plain))
    if _level(tokens, decision, left):
        return _gathered(tokens, decision, keep, ends, left)
    x, deep, size = tokens.x, tokens.deep, tokens.raw("size")
    if ends is not None:
        size = Later(partial(_grown, size, ends))
        if decision.mix is None:
            x = _merged(x, tokens, keep, ends.get(), decision)
            deep = None if deep is None else _merged(deep, tokens, keep, ends.get(), decision)
    if decision.mix is not None:
        x = _mixed(x, tokens, keep, decision.mix)
        deep = None if deep is None else _mixed(deep, tokens, keep, decision.mix)
    group = Later(partial(_regrouped, _bare(tokens), keep, ends))
    merged = tokens.merged or ends is not None
    out = pick(tokens.changed(x=x, deep=deep, size=size, group=group, merged=merged), keep, order, left)
    return out.changed(in_windows=decision.in_windows)


def _level(tokens: Tokens, decision: Decision, left: tuple[Length, ...]) -> bool:
    """Whether a decision merges to means, or mixes what keeps its order, in visual tokens alone, equally many a row."""
    if not tokens.plain or left.count(left[0]) != len(left) or left[0].visual == 0:
        return False
    if decision.mix is not None:
        return decision.order is None and decision.mix.shape[1] == left[0].visual
    return decision.merge_into is not None and (decision.weight is None or decision.normalise)


def _gathered(
    tokens: Tokens, decision: Decision, keep: Tensor, ends: Later[_Ends] | None, left: tuple[Length, ...]
) -> Tokens:
    """What such a decision leaves: each token is made where it stands afterwards, in one operation."""
    count, size = left[0].visual, tokens.raw("size")
    index = indices(keep, decision.order, count, count)
    deep = tokens.deep
    if ends is not None:
        size = Later(partial(_grown, size, ends))
    size = Later(partial(_taken, size, index))
    if decision.mix is not None:
        x = _rows(decision.mix, tokens.x)
        deep = None if deep is None else _rows(decision.mix, deep)
    else:
        place = settled(index, _given(decision.merge_into))
        weight = tokens.size if decision.weight is None else decision.weight.float()
        x, mass, _ = merged(tokens.x, weight, place, count)
        deep = None if deep is None else merged(deep, weight, place, count)[0]
        size = mass if decision.weight is None else size
    group = Later(partial(_regrouped, _bare(tokens), keep, ends))
    out = at_places(tokens.changed(group=group, merged=tokens.merged or ends is not None), index, left, x, deep)
    raster = tokens.raster and decision.order is None
    return out.changed(size=size, raster=raster, in_windows=decision.in_windows)


def _seated(tokens: Tokens, seats: Seats) -> Tokens:
    """What a merge by places leaves; special tokens stand first and stay there."""
    x, size, stay = merged(tokens.x, tokens.size, seats.places, seats.left)
    deep = None if tokens.deep is None else merged(tokens.deep, tokens.size, seats.places, seats.left)[0]
    origin, known = Later(partial(_taken, tokens.raw("origin"), stay)), seen(tokens)
    if known is None:
        bare = _bare(tokens)
        group = Later(lambda: _regrouped(bare, seats.keep(), Later(partial(_seated_ends, seats))))
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


def _given(value: Tensor | None) -> Tensor:
    assert value is not None  # somebody has looked
    return value


def _left(tokens: Tokens, decision: Decision, keep: Tensor) -> tuple[Length, ...]:
    """Tokens of each row after a decision; the device is asked where the decision does not say.

    Args:
        keep: [B, N] bool, the visual tokens kept.
    """
    if decision.keep is tokens.visual:
        return tokens.host
    found = (keep.sum(1) if decision.count is None else decision.count).tolist()
    return tuple(Length(min(n, row.visual), row.special) for n, row in zip(found, tokens.host, strict=True))


class _Ends(NamedTuple):
    """Where tokens end.

    Attributes:
        slot: [B, N] long, the index of the token that each one ends in: itself, or its absorber.
        gone: [B, N] bool, those that end nowhere, whose slot is anything; None: none does.
    """

    slot: Tensor
    gone: Tensor | None


def _ends(keep: Tensor, merge_into: Tensor, visual: Tensor | None, total: bool) -> _Ends:
    if total:
        return _Ends(merge_into, None)
    into = merge_into if visual is None else merge_into.masked_fill(~visual, -1)
    into = torch.where(keep, places(keep.shape[1], keep.device), into)
    return _Ends(into.clamp(min=0), into < 0)


def _seated_ends(seats: Seats) -> _Ends:
    into = seats.into()
    assert into is not None  # seats always know
    return _Ends(into, None)


def _grown(size: Any, ends: Later[_Ends]) -> Tensor:
    """[B, N] for how many unpruned tokens those stand that others ended in."""
    into, own = ends.get(), worked_out(size)
    own = own if into.gone is None else own.masked_fill(into.gone, 0)
    return torch.zeros_like(own).scatter_add_(1, into.slot, own)


def _merged(x: Tensor, tokens: Tokens, keep: Tensor, ends: _Ends, decision: Decision) -> Tensor:
    """[B, N, D] where every absorbing token holds its weighted sum or mean; others are untouched, bit for bit."""
    slot, gone = ends
    weight = (tokens.size if decision.weight is None else decision.weight).float()
    weight = weight if gone is None else weight.masked_fill(gone, 0.0)
    total = scatter_rows(x.float() * weight[..., None], slot)
    if decision.weight is None or decision.normalise:
        mass = torch.zeros_like(weight).scatter_add_(1, slot, weight)
        total.div_(mass.clamp_(min=torch.finfo(mass.dtype).tiny)[..., None])
        sources = (~(keep if gone is None else gone | keep)).to(weight.dtype)
        changed = torch.zeros_like(weight).scatter_add_(1, slot, sources) > 0
    else:
        changed = keep & ~tokens.special
    return torch.where(changed[..., None], total.to(x.dtype), x)


def _mixed(x: Tensor, tokens: Tokens, keep: Tensor, mix: Tensor) -> Tensor:
    """``x`` [B, N, D] of the tokens, each kept visual one's replaced by its row of ``mix`` (rows in sequence order).

    What those hold that are not kept does not matter.
    """
    if mix.shape[1] == 0:  # nothing survives in any row
        return x
    kept = keep if tokens.plain else keep & ~tokens.special
    made = take_rows(_rows(mix, x), (kept.cumsum(1) - 1).clamp(min=0))
    return made if tokens.plain else torch.where(kept[..., None], made, x)


def _rows(mix: Tensor, x: Tensor) -> Tensor:
    """[B, K, D] what [B, K, N] says of the tokens [B, N, D]."""
    return (mix.float() @ x.float()).to(x.dtype)


class _Grouped(NamedTuple):
    """Fields of `Tokens`, the first two perhaps not worked out yet; not the tokens, whose features would live on."""

    origin: Any
    group: Any
    plain: bool
    whole: bool


def _bare(tokens: Tokens) -> _Grouped:
    return _Grouped(tokens.raw("origin"), tokens.raw("group"), tokens.plain, tokens.whole)


def _regrouped(before: _Grouped, keep: Tensor, ends: Later[_Ends] | None) -> Tensor:
    """[B, G] group map after each token [B, N] has stayed, gone, or ended in another."""
    origin = worked_out(before.origin)
    if ends is None:
        moved = torch.where(keep, origin, -1)
    else:
        slot, gone = ends.get()
        moved = origin.gather(1, slot)
        moved = moved if gone is None else moved.masked_fill_(gone, -1)
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
