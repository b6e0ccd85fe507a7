"""Carrying out decisions: gather, merge, compact, and the bookkeeping of origins and groups."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from meteor_bench.core.pruner import Decision
from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["apply", "concat", "densify", "join_frames", "on_cells", "pick", "rows_of", "scatter_rows", "take_rows"]


def apply(tokens: Tokens, decision: Decision) -> Tokens:
    """Tokens after a decision: kept tokens in order, padded on the right, merges carried out."""
    keep = (decision.keep & tokens.visual) | (tokens.special & tokens.valid)
    if decision.mix is None and decision.order is None and bool(torch.equal(keep, tokens.valid)):
        return tokens
    order = None if decision.order is None else decision.order.masked_fill(tokens.special, -1)
    x, size = tokens.x, tokens.size
    if decision.merge_into is None:
        moved = tokens.origin.masked_fill(~keep, -1)
    else:
        into = _destinations(tokens, keep, decision.merge_into)
        gone = into < 0
        slot = into.clamp(min=0)
        moved = tokens.origin.gather(1, slot).masked_fill(gone, -1)
        size = torch.zeros_like(size).scatter_add_(1, slot, size.masked_fill(gone, 0))
        if decision.mix is None:
            x = _merged(tokens, keep, slot, gone, decision)
    if decision.mix is not None:
        x = _mixed(tokens, keep, decision.mix)
    return pick(replace(tokens, x=x, size=size, group=_regroup(tokens, moved)), keep, order)


def _destinations(tokens: Tokens, keep: Tensor, merge_into: Tensor) -> Tensor:
    """[B, N] index of the token that each token ends in: itself, its absorber, or -1."""
    own = torch.arange(keep.shape[1], device=keep.device)
    return torch.where(keep, own, merge_into.masked_fill(~tokens.visual, -1))


def _merged(tokens: Tokens, keep: Tensor, slot: Tensor, gone: Tensor, decision: Decision) -> Tensor:
    """[B, N, D] where every absorbing token holds its weighted sum or mean; others are untouched, bit for bit.

    Args:
        slot: [B, N] the token that each one ends in, anything for those that are ``gone``.
    """
    weight = (tokens.size if decision.weight is None else decision.weight).float().masked_fill(gone, 0.0)
    total = scatter_rows(tokens.x.float() * weight[..., None], slot)
    if decision.weight is None or decision.normalise:
        mass = torch.zeros_like(weight).scatter_add_(1, slot, weight)
        total /= mass.clamp_(min=1e-12)[..., None]
        sources = (~(gone | keep)).to(weight.dtype)
        changed = torch.zeros_like(weight).scatter_add_(1, slot, sources) > 0  # those that absorb another
    else:
        changed = keep & ~tokens.special
    return torch.where(changed[..., None], total.to(tokens.x.dtype), tokens.x)


def scatter_rows(x: Tensor, slot: Tensor) -> Tensor:
    """[B, N, D] with row ``slot[b, n]`` the sum of the rows x[b, n] that point to it; slot [B, N]."""
    b, n, d = x.shape
    # Whole rows at once: several times faster than scattering single numbers.
    flat = (slot + torch.arange(0, b * n, n, device=slot.device)[:, None]).flatten()
    return torch.zeros(b * n, d, dtype=x.dtype, device=x.device).index_add_(0, flat, x.reshape(-1, d)).view(b, n, d)


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """[B, K, D]: the rows x[b, index[b, k]] of [B, N, D]."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def _mixed(tokens: Tokens, keep: Tensor, mix: Tensor) -> Tensor:
    """[B, N, D] with each kept visual token replaced by its row of ``mix`` (rows in sequence order)."""
    if mix.shape[1] == 0:  # nothing survives in any row
        return tokens.x
    kept = keep & ~tokens.special
    rows = (mix.float() @ tokens.x.float()).to(tokens.x.dtype)  # [B, K, D]
    order = (kept.cumsum(1) - 1).clamp(min=0)
    return torch.where(kept[..., None], take_rows(rows, order), tokens.x)


def _regroup(tokens: Tokens, moved: Tensor) -> Tensor:
    """[B, G] group map after each token has become (part of) the token of origin ``moved`` [B, N], -1 for none."""
    b, cells = tokens.group.shape
    # One extra column, to which -1 leads, takes the writes of special tokens and padding; it keeps its -1.
    table = torch.full((b, cells + 1), -1, dtype=torch.long, device=moved.device)
    table.scatter_(1, tokens.origin % (cells + 1), moved.masked_fill(tokens.origin < 0, -1))
    return table.gather(1, tokens.group % (cells + 1))


def pick(tokens: Tokens, keep: Tensor, order: Tensor | None = None) -> Tokens:
    """The chosen tokens of each row, compacted to the left; rows that are shorter are padded on the right.

    Args:
        order: [B, N] sort keys of the chosen ones; None: sequence order.
    """
    counts = keep.sum(1)
    least, most = torch.stack(torch.aminmax(counts)).tolist() if len(counts) else (0, 0)
    ragged = least < most
    if order is not None:
        index = order.double().masked_fill(~keep, torch.inf).argsort(dim=1, stable=True)[:, :most]
    elif ragged:
        index = (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    else:
        index = keep.nonzero()[:, 1].view(len(keep), most)
    out = replace(
        tokens,
        x=take_rows(tokens.x, index),
        valid=torch.ones_like(index, dtype=torch.bool),
        origin=tokens.origin.gather(1, index),
        special=tokens.special.gather(1, index),
        size=tokens.size.gather(1, index),
        slot=None if tokens.slot is None else tokens.slot.gather(1, index),
    )
    return _masked(out, torch.arange(most, device=keep.device) < counts[:, None]) if ragged else out


def _masked(tokens: Tokens, valid: Tensor) -> Tokens:
    """The tokens with everything else made padding."""
    return replace(
        tokens,
        x=tokens.x.masked_fill(~valid[..., None], 0),
        valid=valid,
        origin=tokens.origin.masked_fill(~valid, -1),
        special=tokens.special & valid,
        size=tokens.size.masked_fill(~valid, 0),
        slot=None if tokens.slot is None else tokens.slot.masked_fill(~valid, -1),
    )


def rows_of(tokens: Tokens, rows: Tensor) -> Tokens:
    """The given rows of a batch (repeats allowed)."""
    return replace(
        tokens,
        x=tokens.x[rows],
        valid=tokens.valid[rows],
        origin=tokens.origin[rows],
        special=tokens.special[rows],
        size=tokens.size[rows],
        group=tokens.group[rows],
        slot=None if tokens.slot is None else tokens.slot[rows],
    )


def join_frames(tokens: Tokens, frames: int) -> Tokens:
    """[B·F] rows of single frames -> [B] rows of whole samples, frame after frame, without inner padding."""
    r, n, d = tokens.x.shape
    b, cells = r // frames, tokens.grid.n
    shift = torch.arange(frames, device=tokens.x.device).repeat(b)[:, None] * cells
    joined = replace(
        tokens,
        x=tokens.x.reshape(b, frames * n, d),
        valid=tokens.valid.reshape(b, -1),
        origin=torch.where(tokens.origin >= 0, tokens.origin + shift, tokens.origin).reshape(b, -1),
        special=tokens.special.reshape(b, -1),
        size=tokens.size.reshape(b, -1),
        group=torch.where(tokens.group >= 0, tokens.group + shift, tokens.group).reshape(b, -1),
        grid=Grid(frames * tokens.grid.t, tokens.grid.h, tokens.grid.w),
    )
    return pick(joined, joined.valid) if joined.padded else joined


def concat(parts: list[Tokens]) -> Tokens:
    """Sequence concatenation of several towers' tokens; origins count on through the towers' grids."""
    if len(parts) == 1:
        return parts[0]
    shifts = [sum(p.grid.n for p in parts[:i]) for i in range(len(parts))]
    joined = Tokens(
        x=torch.cat([p.x for p in parts], 1),
        valid=torch.cat([p.valid for p in parts], 1),
        origin=torch.cat(
            [torch.where(p.origin >= 0, p.origin + s, p.origin) for p, s in zip(parts, shifts, strict=True)], 1
        ),
        special=torch.cat([p.special for p in parts], 1),
        size=torch.cat([p.size for p in parts], 1),
        group=torch.cat(
            [torch.where(p.group >= 0, p.group + s, p.group) for p, s in zip(parts, shifts, strict=True)], 1
        ),
        grid=Grid(1, 1, sum(p.grid.n for p in parts)),
    )
    return pick(joined, joined.valid) if joined.padded else joined


def on_cells(tokens: Tokens, values: Tensor) -> Tensor:
    """[B, grid.n] the value [B, N] of the token that stands for each cell, -inf where the cell was dropped."""
    b, cells = tokens.group.shape
    values = values.float().masked_fill(~tokens.visual, -torch.inf)
    table = torch.full((b, cells + 1), -torch.inf, device=values.device)  # the extra column takes what is no cell's
    table.scatter_(1, tokens.origin % (cells + 1), values)
    return table.gather(1, tokens.group % (cells + 1))


def densify(tokens: Tokens) -> Tensor:
    """[B, grid.n, D] features of every cell of the unpruned grid.

    A merged cell takes its group's features; a dropped one those of the nearest surviving cell of the same frame
    (Euclidean distance between cells, ties to the lower index).
    """
    b, cells = tokens.group.shape
    frame, t = tokens.grid.h * tokens.grid.w, tokens.grid.t
    if tokens.x.shape[1] == cells and bool((tokens.group >= 0).all()) and not tokens.padded:
        return tokens.x
    slots = torch.full((b, cells + 1), -1, dtype=torch.long, device=tokens.x.device)
    own = torch.arange(tokens.x.shape[1], device=tokens.x.device).expand_as(tokens.origin)
    slots.scatter_(1, torch.where(tokens.visual, tokens.origin, cells), own)
    alive = tokens.group >= 0
    slot = slots.gather(1, tokens.group.clamp(min=0))
    if not bool(alive.all()):
        y, x = torch.meshgrid(torch.arange(tokens.grid.h), torch.arange(tokens.grid.w), indexing="ij")
        place = torch.stack([y.flatten(), x.flatten()], -1).to(tokens.x.device, torch.float32)
        distance = torch.cdist(place, place)  # [frame, frame]
        for f in range(t):
            part = slice(f * frame, (f + 1) * frame)
            far = distance[None].masked_fill(~alive[:, None, part], torch.inf)
            nearest = far.argmin(-1)  # [B, frame]
            filled = slot[:, part].gather(1, nearest)
            slot[:, part] = torch.where(alive[:, part], slot[:, part], filled)
    return tokens.x.gather(1, slot[..., None].expand(-1, -1, tokens.x.shape[-1]))
