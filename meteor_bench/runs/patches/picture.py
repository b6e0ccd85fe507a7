"""A panel drawn over its picture: kept patches as they are, merged ones tinted by group, dropped ones faded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pictures

from meteor_bench.runs.patches.recorder import ALONE, DROPPED, Panel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["PAPER", "TINTS", "draw"]

# Okabe and Ito's colours, which colour-blind people can tell apart, without black.
TINTS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66))
PAPER = (250, 250, 248)
_INK = (28, 30, 33)
_GREY, _PALE = (172, 176, 182), 190
_APART = 6  # pixels between the lines over what was dropped


def draw(panel: Panel, frames: Sequence[Image], width: int) -> Image:
    """The frames of a panel, near-square side by side.

    Args:
        frames: as many as `panel.grid.t`.
        width: of the whole, in pixels.
    """
    t, h, w = panel.grid
    columns = math.ceil(math.sqrt(t))
    gap = 2 if t > 1 else 0
    side = max(1, (width - gap * (columns - 1)) // columns)
    height = max(1, round(side * frames[0].height / frames[0].width))
    rows = math.ceil(t / columns)
    sheet = Pictures.new("RGB", (width, rows * height + gap * (rows - 1)), PAPER)
    for i, frame in enumerate(frames[:t]):
        part = slice(i * h * w, (i + 1) * h * w)
        group = np.array(panel.group[part]).reshape(h, w)
        colour = np.array(panel.colour[part]).reshape(h, w)
        own = np.arange(panel.start + part.start, panel.start + part.stop).reshape(h, w)
        drawn = _frame(frame.convert("RGB").resize((side, height), Pictures.Resampling.BICUBIC), group, colour, own)
        sheet.paste(drawn, ((i % columns) * (side + gap), (i // columns) * (height + gap)))
    return sheet


def _frame(frame: Image, group: NDArray[np.int64], colour: NDArray[np.int64], own: NDArray[np.int64]) -> Image:
    """One frame; group, colour and own (the cells' numbers) are [h, w]."""
    pixels = np.asarray(frame).astype(np.float32)
    height, width = pixels.shape[:2]
    h, w = group.shape
    y, x = np.arange(height) * h // height, np.arange(width) * w // width
    of_pixel = np.ix_(y, x)
    state, member = colour[of_pixel], group[of_pixel]
    grey = pixels.mean(-1, keepdims=True)
    # Into the paper, or into a grey where the picture itself is as pale, say a page of a document.
    veil = _GREY if grey.mean() > _PALE else PAPER
    faded = 0.16 * grey + 0.84 * np.array(veil, np.float32)
    # Slanting lines, so that it cannot be taken for a part of the picture.
    slant = np.add.outer(np.arange(height), np.arange(width)) % _APART == 0
    faded = np.where(slant[..., None], faded * 0.86, faded)
    tint = np.array(((0, 0, 0), *TINTS), np.float32)[np.clip(state, 0, len(TINTS))]
    mixed = 0.45 * pixels + 0.55 * tint
    out = np.where((state == DROPPED)[..., None], faded, np.where((state > ALONE)[..., None], mixed, pixels))
    _outline(out, member, state)
    _dots(out, (group == own) & (colour > ALONE))
    return Pictures.fromarray(out.round().clip(0, 255).astype(np.uint8))


def _outline(out: NDArray[np.float32], member: NDArray[np.int64], state: NDArray[np.int64]) -> None:
    """White lines between groups, where at least one of the two is merged."""
    for axis in (0, 1):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        border = (member[before] != member[after]) & ((state[before] > ALONE) | (state[after] > ALONE))
        out[after][border] = (255, 255, 255)


def _dots(out: NDArray[np.float32], heads: NDArray[np.bool_]) -> None:
    """A dot on the cell whose token stands for its group."""
    height, width = out.shape[:2]
    h, w = heads.shape
    radius = max(1.0, 0.16 * min(height / h, width / w))
    for row, column in np.argwhere(heads):
        y, x = (row + 0.5) * height / h, (column + 0.5) * width / w
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        ys, xs = np.ogrid[top : int(y + radius) + 1, left : int(x + radius) + 1]
        inside = (ys + 0.5 - y) ** 2 + (xs + 0.5 - x) ** 2 <= radius**2
        out[top : int(y + radius) + 1, left : int(x + radius) + 1][inside[: height - top, : width - left]] = _INK
