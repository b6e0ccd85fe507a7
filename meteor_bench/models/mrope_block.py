"""The visual block where positions have three axes, time, row and column (Qwen2.5-VL, Qwen3-VL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.host import upload
from meteor_bench.core.model import Decoder
from meteor_bench.core.tokens import Block, Grid

__all__ = ["block_of", "mixed_block"]

Texts = Sequence[Sequence[int]]


class _Part(NamedTuple):
    """An image, a frame or a video of a block.

    Attributes:
        slots: [G] long, where the tokens of its cells stand among its own.
        positions: [N, 3] long, of its tokens, from 0.
        span: what it adds to the positions behind it.
    """

    slots: Tensor
    positions: Tensor
    span: int


def block_of(decoder: Decoder, grid: Grid, texts: Texts, interval: float | None = None) -> Block:
    """The visual block with its positions (time, row, column).

    An image starts where the text before it ends and adds the longer of its sides to the positions behind it; so does
    a video, whose pairs are ``interval`` apart in time.

    Args:
        texts: ids before each image, and behind the last.
        interval: None for images, each a row of the grid.
    """
    images = grid.t if interval is None else 1
    part = _part(Grid(grid.t // images, grid.h, grid.w), interval, next(decoder.parameters()).device)
    return _joined(decoder, [part] * images, texts)


def mixed_block(decoder: Decoder, grid: Grid, sizes: Sequence[tuple[int, int]], texts: Texts) -> Block:
    """`block_of` for images of unequal size.

    Args:
        grid: as wide and high as the largest sides.
        sizes: height and width of each image in cells.
    """
    device = next(decoder.parameters()).device
    parts = []
    for h, w in sizes:
        row = torch.arange(grid.h, device=device)[:, None].clamp(max=h - 1)  # cells outside of an image hold no token
        slots = row * w + torch.arange(grid.w, device=device).clamp(max=w - 1)
        parts.append(_part(Grid(1, h, w), None, device)._replace(slots=slots.flatten()))
    return _joined(decoder, parts, texts)


def _part(grid: Grid, interval: float | None, device: torch.device) -> _Part:
    """One image, or a video of pairs ``interval`` apart, that fills its grid."""
    cell = torch.arange(grid.n, device=device)
    time = (cell // (grid.h * grid.w) * (interval or 1.0)).long()
    positions = torch.stack([time, cell // grid.w % grid.h, cell % grid.w], 1)
    return _Part(cell, positions, max(grid.h, grid.w))


def _joined(decoder: Decoder, parts: Sequence[_Part], texts: Texts) -> Block:
    """Parts one after the other, with the texts around them."""
    slots, special, positions = [], [], []
    start = at = 0
    for i, text in enumerate(texts):
        count = torch.arange(len(text), device=parts[0].slots.device)
        special.append(count + start)
        positions.append((count + at)[:, None].expand(-1, 3))
        start, at = start + len(text), at + len(text)
        if i < len(parts):
            slots.append(parts[i].slots + start)
            positions.append(parts[i].positions + at)
            start, at = start + len(parts[i].positions), at + parts[i].span
    ids = upload([i for text in texts for i in text], parts[0].slots.device, torch.long)
    return Block(torch.cat(slots), decoder.embed(ids), torch.cat(special), torch.cat(positions), at)
