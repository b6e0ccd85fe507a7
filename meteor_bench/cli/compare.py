"""What `meteor-bench compare` does: read, compare, print, draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from meteor_bench.config.run_config import check
from meteor_bench.report import formats
from meteor_bench.report.compare import Pair, comparison, described, lay_out, pair
from meteor_bench.report.document import Document
from meteor_bench.runs.patches.flips import Flip, draw, flips, print_flips, rows, table
from meteor_bench.utils.progress import say

__all__ = ["run"]


def run(
    a: Path,
    b: Path,
    stream: IO[str],
    *,
    format: str,
    samples: bool = False,
    pictures: Path | None = None,
    data_root: Path | None = None,
) -> None:
    """Print the comparison of two runs.

    Args:
        format: "terminal" or one of `report.document.FORMATS`.
        samples: list the flips too.
        pictures: folder to draw the flips into.
        data_root: where their data are; by default where they were.

    Raises:
        MeteorBenchError: the runs cannot be read or compared.
    """
    check("data_root", data_root)
    compared = pair(a, b)
    found = flips(compared) if samples or pictures else []
    shown = found if samples else None
    made = _document(compared, shown, pictures)
    if format == "terminal" and shown:
        replace(made, tables=lambda: made.tables()[:1]).write(stream)
        print_flips(shown, stream, pictures=pictures)
    else:
        made.write(stream, format)
    if pictures:
        say(f"{draw(compared, found, pictures, data_root)} of {len(found)} pictures drawn into {pictures}")


def _document(compared: Pair, found: Sequence[Flip] | None, pictures: Path | None) -> Document:
    """The comparison, and the questions that flipped where they are asked for."""
    import pandas as pd

    frame = comparison(compared)
    numbers = {"comparison": frame} | ({} if found is None else {"samples": pd.DataFrame(rows(found, pictures))})
    tables = [lay_out(compared, frame), *([table(found, pictures)] if found is not None else [])]
    told = {**described(compared), "tables": {name: formats.json_rows(part) for name, part in numbers.items()}}
    return Document(lambda: tables, lambda: numbers, ("kind", "name", "sample"), lambda: told)
