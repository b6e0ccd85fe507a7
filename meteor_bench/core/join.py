"""Several rows as one: the frames of a sample, or the tokens of several encoders, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from meteor_bench.core.pick import pick
from meteor_bench.core.tokens import Grid, Later, Length, Tokens, worked_out

__all__ = ["beside", "concat", "join_frames"]


def join_frames(tokens: Tokens, frames: int) -> Tokens:
    """[B·F] rows of single frames -> [B] rows of whole samples, frame after frame, without inner padding."""
    if frames == 1:
        return tokens.changed(grid=Grid(tokens.grid.t, tokens.grid.h, tokens.grid.w))
    r, n, d = tokens.x.shape
    b, cells, device = r // frames, tokens.grid.n, tokens.x.device
    host = tokens.host

    def joint(name: str) -> Later[Tensor]:
        field = tokens.raw(name)
        return Later(lambda: worked_out(field).reshape(b, -1))

    def shifted(name: str) -> Later[Tensor]:
        field = tokens.raw(name)

        def made() -> Tensor:
            shift = torch.arange(frames, device=device).repeat(b)[:, None] * cells
            value: Tensor = worked_out(field)
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
        ahead=False,
    )
    return pick(joined, joined.valid, lengths=joined.lengths) if joined.padded else joined


def concat(parts: list[Tokens]) -> Tokens:
    """Sequence concatenation of several towers' tokens; origins count on through the towers' grids."""
    if len(parts) == 1:
        return parts[0]
    shifts = [sum(p.grid.n for p in parts[:i]) for i in range(len(parts))]

    def joint(name: str) -> Later[Tensor]:
        each = [p.raw(name) for p in parts]
        return Later(lambda: torch.cat([worked_out(field) for field in each], 1))

    def shifted(name: str) -> Later[Tensor]:
        each = [(p.raw(name), shift) for p, shift in zip(parts, shifts, strict=True)]
        values = ((worked_out(field), shift) for field, shift in each)
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


def _sum(rows: Sequence[Length]) -> Length:
    return Length(sum(row.visual for row in rows), sum(row.special for row in rows))
