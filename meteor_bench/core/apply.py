"""Carrying out decisions: gather, merge, compact, and the bookkeeping of origins and groups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.host import made_once, on_device, places, upload
from meteor_bench.core.tokens import Grid, Later, Length, Tokens
from meteor_bench.core.view import Decision, Restored

__all__ = [
    "apply",
    "beside",
    "concat",
    "densify",
    "join_frames",
    "kept_places",
    "on_cells",
    "pick",
    "rows_of",
    "scatter_rows",
    "take_rows",
]


def apply(tokens: Tokens, decision: Decision) -> Tokens:
    """Tokens after a decision: kept tokens in order, padded on the right, merges carried out, others brought back."""
    left = _applied(tokens, decision)
    return left if decision.restored is None else _with(left, decision.restored)


def _applied(tokens: Tokens, decision: Decision) -> Tokens:
    """What a decision leaves of the tokens that are there."""
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


def scatter_rows(x: Tensor, slot: Tensor) -> Tensor:
    """[B, N, D] with row ``slot[b, n]`` the sum of the rows x[b, n] that point to it; slot [B, N]."""
    b, n, d = x.shape
    # Whole rows at once: several times faster than scattering single numbers.
    flat = slot[0] if b == 1 else (slot + torch.arange(0, b * n, n, device=slot.device)[:, None]).flatten()
    return torch.zeros(b * n, d, dtype=x.dtype, device=x.device).index_add_(0, flat, x.reshape(-1, d)).view(b, n, d)


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """[B, K, D]: the rows x[b, index[b, k]] of [B, N, D]."""
    if len(x) == 1:
        return x[0].index_select(0, index[0])[None]
    return x[places(len(x), x.device)[:, None], index]


def _mixed(x: Tensor, tokens: Tokens, keep: Tensor, mix: Tensor) -> Tensor:
    """``x`` [B, N, D] of the tokens, each kept visual one's replaced by its row of ``mix`` (rows in sequence order)."""
    if mix.shape[1] == 0:  # nothing survives in any row
        return x
    kept = keep & ~tokens.special
    rows = (mix.float() @ x.float()).to(x.dtype)  # [B, K, D]
    order = (kept.cumsum(1) - 1).clamp(min=0)
    return torch.where(kept[..., None], take_rows(rows, order), x)


def _value(field: Any) -> Any:
    return field.get() if isinstance(field, Later) else field


class _Grouped(NamedTuple):
    """Fields of `Tokens`, the first two perhaps not worked out yet."""

    origin: Any
    group: Any
    plain: bool
    whole: bool


def _regrouped(before: _Grouped, keep: Tensor, into: Tensor | None) -> Tensor:
    """[B, G] group map after each token [B, N] has stayed, gone, or ended in the token ``into`` [B, N], -1 for none."""
    origin = _value(before.origin)
    if into is None:
        moved = torch.where(keep, origin, -1)
    else:
        moved = origin.gather(1, into.clamp(min=0)).masked_fill(into < 0, -1)
    if before.whole:
        return moved  # every cell is its token's
    group: Tensor = _value(before.group)
    cells = group.shape[1]
    # One extra column, to which -1 leads, takes the writes of special tokens and padding; it keeps its -1.
    table = torch.full((len(moved), cells + 1), -1, dtype=torch.long, device=moved.device)
    if before.plain:
        table.scatter_(1, origin, moved)
    else:
        table.scatter_(1, origin % (cells + 1), moved.masked_fill(origin < 0, -1))
    return table.gather(1, group % (cells + 1))


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
    if order is not None:
        last = torch.inf if order.is_floating_point() else torch.iinfo(order.dtype).max
        index = torch.where(keep, order, last).argsort(dim=1, stable=True)[:, :most]
    else:
        index = kept_places(keep, most, ragged=least < most)
    valid = partial(torch.ones, index.shape, dtype=torch.bool, device=index.device)
    out = tokens.changed(
        x=take_rows(tokens.x, index),
        deep=None if tokens.deep is None else take_rows(tokens.deep, index),
        valid=Later(valid),
        **{name: _picked(tokens.raw(name), index) for name in ("origin", "special", "size", "slot")},
        lengths=lengths,
        raster=tokens.raster and order is None,
        in_windows=None,
    )
    if not any(row.special for row in lengths):
        out = out.changed(special=Later(lambda: torch.zeros_like(index, dtype=torch.bool)))
    if least == most:
        return out
    return _masked(out, torch.arange(most, device=keep.device) < upload(counts, keep.device)[:, None])


def kept_places(keep: Tensor, most: int, *, ragged: bool) -> Tensor:
    """[B, most] indices of the kept ones, ascending; what stands behind them in shorter rows is of no use."""
    if ragged:
        return (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    return torch.nonzero_static(keep, size=len(keep) * most)[:, 1].view(len(keep), most)


def _picked(field: Any, index: Tensor) -> Later[Tensor] | None:
    return None if field is None else Later(lambda: _value(field).gather(1, index))


def _masked(tokens: Tokens, valid: Tensor) -> Tokens:
    """The tokens with everything else made padding."""

    def blanked(name: str, by: int) -> Later[Tensor] | None:
        field = tokens.raw(name)
        return None if field is None else Later(lambda: _value(field).masked_fill(~valid, by))

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
        return None if field is None else Later(lambda: _value(field)[rows_there])

    return tokens.changed(
        x=tokens.x[rows_there],
        deep=None if tokens.deep is None else tokens.deep[rows_there],
        **{name: taken(name) for name in ("valid", "origin", "special", "size", "group", "slot")},
        lengths=None if known is None else tuple(known[row] for row in rows.tolist()),
    )


def join_frames(tokens: Tokens, frames: int) -> Tokens:
    """[B·F] rows of single frames -> [B] rows of whole samples, frame after frame, without inner padding."""
    if frames == 1:
        return tokens.changed(grid=Grid(tokens.grid.t, tokens.grid.h, tokens.grid.w))
    r, n, d = tokens.x.shape
    b, cells, device = r // frames, tokens.grid.n, tokens.x.device
    host = tokens.host

    def joint(name: str) -> Later[Tensor]:
        field = tokens.raw(name)
        return Later(lambda: _value(field).reshape(b, -1))

    def shifted(name: str) -> Later[Tensor]:
        field = tokens.raw(name)

        def made() -> Tensor:
            shift = torch.arange(frames, device=device).repeat(b)[:, None] * cells
            value: Tensor = _value(field)
            return torch.where(value >= 0, value + shift, value).reshape(b, -1)

        return Later(made)

    joined = tokens.changed(
        x=tokens.x.reshape(b, frames * n, d),
        deep=None if tokens.deep is None else tokens.deep.reshape(b, frames * n, -1),
        valid=joint("valid"),
        origin=shifted("origin"),
        special=joint("special"),
        size=joint("size"),
        group=shifted("group"),
        grid=Grid(frames * tokens.grid.t, tokens.grid.h, tokens.grid.w),
        lengths=tuple(_sum(host[i * frames : (i + 1) * frames]) for i in range(b)),
    )
    return pick(joined, joined.valid, lengths=joined.lengths) if joined.padded else joined


def _sum(rows: Sequence[Length]) -> Length:
    return Length(sum(row.visual for row in rows), sum(row.special for row in rows))


def concat(parts: list[Tokens]) -> Tokens:
    """Sequence concatenation of several towers' tokens; origins count on through the towers' grids."""
    if len(parts) == 1:
        return parts[0]
    shifts = [sum(p.grid.n for p in parts[:i]) for i in range(len(parts))]

    def joint(name: str) -> Later[Tensor]:
        each = [p.raw(name) for p in parts]
        return Later(lambda: torch.cat([_value(field) for field in each], 1))

    def shifted(name: str) -> Later[Tensor]:
        each = [(p.raw(name), shift) for p, shift in zip(parts, shifts, strict=True)]
        values = ((_value(field), shift) for field, shift in each)
        return Later(lambda: torch.cat([torch.where(v >= 0, v + shift, v) for v, shift in values], 1))

    joined = Tokens(
        x=torch.cat([p.x for p in parts], 1),
        deep=beside(parts),
        valid=joint("valid"),
        origin=shifted("origin"),
        special=joint("special"),
        size=joint("size"),
        group=shifted("group"),
        grid=Grid(1, 1, sum(p.grid.n for p in parts)),
        lengths=tuple(_sum(rows) for rows in zip(*(p.host for p in parts), strict=True)),
        merged=any(p.merged for p in parts),
        raster=all(p.raster for p in parts),
    )
    return pick(joined, joined.valid, lengths=joined.lengths) if joined.padded else joined


def beside(parts: Sequence[Tokens]) -> Tensor | None:
    """`Tokens.deep` of parts one after another; nothing is added to the tokens of a part that has none."""
    width = max(0 if p.deep is None else p.deep.shape[2] for p in parts)
    if width == 0:
        return None
    return torch.cat([p.x.new_zeros(*p.x.shape[:2], width) if p.deep is None else p.deep for p in parts], 1)


def on_cells(tokens: Tokens, values: Tensor) -> Tensor:
    """[B, grid.n] the value [B, N] of the token that stands for each cell, -inf where the cell was dropped."""
    values = values.float()
    if tokens.whole:
        return values
    b, cells = tokens.group.shape
    table = torch.full((b, cells + 1), -torch.inf, device=values.device)  # the extra column takes what is no cell's
    if tokens.plain:
        table.scatter_(1, tokens.origin, values)
    else:
        table.scatter_(1, tokens.origin % (cells + 1), values.masked_fill(~tokens.visual, -torch.inf))
    return table.gather(1, tokens.group % (cells + 1))


def densify(tokens: Tokens) -> Tensor:
    """[B, grid.n, D] features of every cell of the unpruned grid.

    A merged cell takes its group's features; a dropped one those of the nearest surviving cell of the same frame
    (Euclidean distance between cells, ties to the lower index).
    """
    if tokens.whole:
        return tokens.x
    b, cells = tokens.group.shape
    frame, t = tokens.grid.h * tokens.grid.w, tokens.grid.t
    slots = torch.full((b, cells + 1), -1, dtype=torch.long, device=tokens.x.device)
    own = torch.arange(tokens.x.shape[1], device=tokens.x.device).expand_as(tokens.origin)
    slots.scatter_(1, torch.where(tokens.visual, tokens.origin, cells), own)
    alive = tokens.group >= 0
    slot = slots.gather(1, tokens.group.clamp(min=0))
    # Whether any cell was dropped at all would cost a wait to know.
    distance = _distances(tokens.grid.h, tokens.grid.w, tokens.x.device)  # [frame, frame]
    for f in range(t):
        part = slice(f * frame, (f + 1) * frame)
        nearest = distance.masked_fill(~alive[:, None, part], torch.inf).argmin(-1)  # [B, frame]
        slot[:, part] = torch.where(alive[:, part], slot[:, part], slot[:, part].gather(1, nearest))
    return take_rows(tokens.x, slot)


@made_once(16)
def _distances(height: int, width: int, device: torch.device) -> Tensor:
    """[h·w, h·w] Euclidean distances between cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], -1).float()
    return on_device(torch.cdist(place, place), device)
