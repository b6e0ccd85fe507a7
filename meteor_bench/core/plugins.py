"""What other packages add to our tables: entry points, read once for the packages that are there.

Python reads the files of all installed packages whenever it is asked, which takes ten milliseconds, and tables are
asked for often.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path

__all__ = ["added"]


def added(group: str) -> EntryPoints:
    """The entry points of a group; those of a package that was installed meanwhile are among them."""
    return _read(group, tuple((place, _changed(place)) for place in sys.path))


@lru_cache(maxsize=8)
def _read(group: str, _: tuple[tuple[str, int], ...]) -> EntryPoints:
    return entry_points(group=group)


def _changed(place: str) -> int:
    """When something was last put into a place of Python's path, or taken out of it; 0 where there is no such place."""
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0
