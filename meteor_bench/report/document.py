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
from meteor_bench.utils.columns import folded, terminal_width

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
        lead: sentences above the tables, in the terminal and in Markdown.
        tail: lines below the tables in the terminal: what followed, and where the results are.
        brief: of these, what is printed where no tables are wanted; all of them by default.
    """

    tables: Callable[[], Sequence[Table]]
    numbers: Callable[[], Mapping[str, pd.DataFrame]]
    keys: Sequence[str] = ()
    data: Callable[[], Any] | None = None
    empty: str = ""
    lead: Sequence[str] = ()
    tail: Sequence[str] = ()
    brief: Sequence[str] = ()

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
        for sentence in self.lead:
            stream.writelines(part + "\n" for part in folded(sentence, width or terminal_width()))
        if self.lead and made:
            stream.write("\n")
        formats.terminal(made, stream, width)
        if not made and self.empty:
            stream.write(f"{self.empty}\n")
        stream.writelines(f"{line}\n" for line in self.tail)

    def write_brief(self, stream: IO[str]) -> None:
        """Print where the results are, without tables."""
        stream.writelines(f"{line}\n" for line in self.brief or self.tail)

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
        if form == "latex":
            return formats.latex(self.tables())
        return formats.paragraphs(self.lead) + formats.markdown(self.tables())

    def _plain_numbers(self) -> dict[str, Any]:
        return {"tables": {name: formats.json_rows(frame) for name, frame in self.numbers().items()}}
