"""A table as people read it: text in cells, what is set in bold, what is said below. `formats` prints it.

Numbers are rounded here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "FEW_IMAGES",
    "INFERRED",
    "MARKS",
    "MISSING",
    "REPORTED",
    "Table",
    "fixed",
    "interval",
    "signed",
    "with_half",
]

MISSING = "–"
# Where a number comes from; what was measured here has no mark.
INFERRED, REPORTED = "‡", "§"
# On an interval, or on the heading of a column of them.
FEW_IMAGES = "°"
MARKS = {INFERRED: "inferred from closed forms", REPORTED: "reported by its source, not measured here"}


@dataclass(frozen=True)
class Table:
    """Text in cells, ready for any format.

    Attributes:
        title: what it shows.
        columns: headings; the first column is text, the others are numbers.
        rows: cells, as many as headings.
        breaks: indices of the rows that a new section starts with.
        notes: what was measured and how, below the table.
        bold: (row, column) of the cells set in bold.
        detail: left out where a terminal is too narrow to show all columns side by side.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    breaks: frozenset[int] = frozenset()
    notes: Sequence[str] = field(default_factory=tuple)
    bold: frozenset[tuple[int, int]] = frozenset()
    detail: bool = False


def fixed(value: float | None, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value if abs(value) >= 0.5 * 10**-digits else 0.0:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference; what rounds to nothing has no sign."""
    text = fixed(value, digits)
    return text if text == MISSING or text.startswith("-") or float(text) == 0 else f"+{text}"


def with_half(value: float | None, low: float | None, high: float | None, digits: int = 1) -> str:
    """A difference and the half width of its interval: "-2.9 ±0.8"; of a cut-off interval the wider half."""
    if value is None or low is None or high is None or math.isnan(value):
        return MISSING
    half = max(high - value, value - low)
    return signed(value, digits) + ("" if math.isnan(half) else f" ±{half:.{digits}f}")


def interval(low: float | None, high: float | None, *, plus: bool = False) -> str:
    """Bounds: "[94.1, 95.8]"; with their signs where they are those of a difference."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return MISSING
    return f"[{signed(low)}, {signed(high)}]" if plus else f"[{fixed(low)}, {fixed(high)}]"
