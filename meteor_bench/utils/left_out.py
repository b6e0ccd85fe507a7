"""Imports without what they bring along and can do without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["left_out"]


@contextmanager
def left_out(package: str) -> Iterator[None]:
    """Imports inside find a package missing, as if it were not installed, unless it is loaded already.

    For one that is optional to whoever imports it. Afterwards it can be imported as ever.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # Python's own mark of a module that is not there
    try:
        yield
    finally:
        sys.modules.pop(package, None)
