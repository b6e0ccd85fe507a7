"""Lines and columns of plain text that fit the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

__all__ = ["columns", "folded", "terminal_width"]

_GAP = 2
_NARROWEST = 8  # of a column that is made narrower


def terminal_width() -> int:
    """Columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def folded(text: str, width: int, indent: int = 2) -> list[str]:
    """A line as several of at most ``width``, those after the first indented."""
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]


def columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows of equal length as aligned lines of at most ``width``; the widest column gives way first."""
    widths = [max(1, *map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + _GAP * (len(widths) - 1) > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in rows:
        cells = [textwrap.wrap(text, at, break_on_hyphens=False) for text, at in zip(row, widths, strict=True)]
        for line in range(max(map(len, cells), default=0)):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            lines.append((" " * _GAP).join(p.ljust(at) for p, at in zip(parts, widths, strict=True)).rstrip())
    return lines
