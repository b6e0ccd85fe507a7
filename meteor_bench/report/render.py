"""Cells printed: `FORMATS["markdown"](load(folder))` is a text, `as_terminal(load(folder), stream)` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO

import pandas as pd

from meteor_bench.report import formats
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.counts import tokens
from meteor_bench.report.layout import lay_out
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.times import latency
from meteor_bench.utils.structuring import plain

__all__ = ["FORMATS", "KEYS", "as_csv", "as_json", "as_latex", "as_markdown", "as_terminal", "frames", "named"]

# What a line of CSV is about.
KEYS = ("model", "benchmarks", "method", "ratio", "seeds", "kind", "name", "group", "metric", "unit", "source")


def as_terminal(cells: Sequence[Cell], stream: IO[str], width: int | None = None) -> None:
    """Print the tables.

    Args:
        width: columns; None for those of the terminal (80 where there is none).
    """
    formats.terminal(lay_out(cells), stream, width)


def as_markdown(cells: Sequence[Cell]) -> str:
    """All tables as GitHub Markdown."""
    return formats.markdown(lay_out(cells))


def as_latex(cells: Sequence[Cell]) -> str:
    """All tables as LaTeX (booktabs)."""
    return formats.latex(lay_out(cells))


def as_csv(cells: Sequence[Cell]) -> str:
    """Every number of every table: a line per table, setting and name, unrounded."""
    return formats.csv(frames(cells), KEYS)


def as_json(cells: Sequence[Cell]) -> str:
    """The frames row by row, with the records that they come from."""
    document = {
        "schema": cells[0].record.schema,
        "tables": {name: formats.json_rows(frame) for name, frame in frames(cells).items()},
        "runs": [
            {"folder": run.path.name, **{k: v for k, v in plain(run.record).items() if k not in ("tasks", "tokens")}}
            for cell in cells
            for run in cell.runs
        ],
    }
    return formats.dump(document)


FORMATS: Mapping[str, Callable[[Sequence[Cell]], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
    "json": as_json,
}


def frames(cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    """ "accuracy", "tokens" and "latency", a row per number with what it is about (`KEYS`); nothing is rounded."""
    parts = sections(cells)
    made: dict[str, pd.DataFrame] = {}
    for name, make in {"accuracy": accuracy, "tokens": tokens, "latency": latency}.items():
        made[name] = pd.concat([named(make(section), section) for section in parts], ignore_index=True)
    return made


def named(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    """A section's frame with what its rows are about (`KEYS`) in place of the cell's number."""
    if frame.empty:
        return frame
    about = pd.DataFrame(
        {
            "model": [cell.record.model for cell in section.cells],
            "benchmarks": len(section.tasks),
            "method": section.labels,
            "ratio": [cell.ratio for cell in section.cells],
            "seeds": [",".join(map(str, cell.seeds)) for cell in section.cells],
        }
    )
    source = {} if "source" in frame else {"source": "measured"}
    return frame.drop(columns="row").assign(**about.loc[frame["row"]].reset_index(drop=True), **source)
