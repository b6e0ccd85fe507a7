"""What annotations say of a setting beyond its type: ``Annotated[float, Range(above=0, most=1)]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

__all__ = ["Layer", "Range", "Share"]


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have; of a text or list, the bounds of its length.

    Attributes:
        least, most: bounds that are allowed themselves.
        above, below: bounds that are not.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value: Any) -> bool:
        number = value if isinstance(value, int | float) else len(value)
        # Written so that NaN lies in no range.
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        ) and number == number

    def __str__(self) -> str:
        """In a user's words: "of 1 or more", "in (0, 1]"."""
        low, high = self.above if self.least is None else self.least, self.below if self.most is None else self.most
        if low is not None and high is not None:
            return f"in {'(['[self.least is not None]}{_said(low)}, {_said(high)}{')]'[self.most is not None]}"
        if low is not None:
            return f"{_said(low)} or more" if self.least is not None else f"above {_said(low)}"
        if high is not None:
            return f"{_said(high)} or less" if self.most is not None else f"below {_said(high)}"
        return "that is a number"


def _said(bound: float) -> str:
    power = bound.bit_length() - 1 if isinstance(bound, int) and bound > 1 else 0
    return f"2^{power}" if power > 20 and bound == 1 << power else f"{bound:g}"


Layer = Annotated[int, Range(least=1)]
"""A layer of the language model by its index; what is decided before it reads attention of the one before."""
Share = Annotated[float, Range(least=0, most=1)]
"""A part of a whole."""
