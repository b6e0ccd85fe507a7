"""A hostile case: something hostile, and what reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from meteor_bench.core.errors import MeteorBenchError

Put = Callable[[Path], None]
Read = Callable[[Path], Any]


class Case(NamedTuple):
    """Something hostile and what reads it.

    Attributes:
        kind: of the file or value; name: which.
        act: does it in an empty folder.
        refused: whether it must be an error; None where it may be read as well, as long as nothing breaks.
    """

    kind: str
    name: str
    act: Read
    refused: bool | None = True


def outcome(case: Case, folder: Path) -> str:
    """What came of it: "clean", or what is not."""
    try:
        case.act(folder)
    except MeteorBenchError as error:
        if case.refused is False:
            return f"refused: {error}"
        return "clean" if "\n" not in str(error) else "more than a line"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    return "answered" if case.refused else "clean"
