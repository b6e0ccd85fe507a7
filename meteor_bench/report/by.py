"""What a report may group methods by, for the command line, which does not load what groups them."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["By"]


class By(StrEnum):
    """What the methods of a ratio are grouped by."""

    STAGE = "stage"
    YEAR = "year"
