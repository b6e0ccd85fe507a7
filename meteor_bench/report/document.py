"""What a command prints: tables for people, numbers for programs, in every format that there is.

Tables and numbers are made when a format asks for them: a terminal needs no CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from meteor_bench.report import formats
from meteor_bench.report.table import Table
from meteor_bench.utils.atomic_io import write_whole

__all__ = ["FILES", "FORMATS", "Document"]

FILES = {"md": "markdown", "csv": "csv", "json": "json"}
"""Suffix -> format, of the files that stand beside records."""
FORMATS = ("markdown", "csv", "latex", "json")
"""Formats besides the terminal's."""


@dataclass(frozen=True)
class Document:
    """Tables and the numbers behind them.

    Attributes:
        tables: makes what people read; rounded.
        numbers: makes name -> frame with every number, unrounded; what CSV holds, and JSON unless `data` says more.
        keys: columns of the frames that stand first in CSV.
        data: makes the JSON document; None for the numbers alone, under "tables".
        empty: what a terminal says where there is no table.
    """

    tables: Callable[[], Sequence[Table]]
    numbers: Callable[[], Mapping[str, pd.DataFrame]]
    keys: Sequence[str] = ()
    data: Callable[[], Any] | None = None
    empty: str = ""

    def write(self, stream: IO[str], form: str = "terminal", width: int | None = None) -> None:
        """Print in a format.

        Args:
            form: "terminal" or one of `FORMATS`.
            width: columns of a terminal; None for those that it has (80 where there is none).
        """
        if form != "terminal":
            stream.write(self.render(form))
            return
        made = self.tables()
        formats.terminal(made, stream, width)
        if not made and self.empty:
            stream.write(f"{self.empty}\n")

    def write_files(self, folder: Path, stem: str) -> None:
        """Write the tables beside records, in all of `FILES`."""
        for suffix, form in FILES.items():
            write_whole(folder / f"{stem}.{suffix}", self.render(form).encode())

    def render(self, form: str) -> str:
        """The text in one of `FORMATS`."""
        if form == "csv":
            return formats.csv(self.numbers(), self.keys)
        if form == "json":
            return formats.dump(self._plain_numbers() if self.data is None else self.data())
        return formats.markdown(self.tables()) if form == "markdown" else formats.latex(self.tables())

    def _plain_numbers(self) -> dict[str, Any]:
        return {"tables": {name: formats.json_rows(frame) for name, frame in self.numbers().items()}}
