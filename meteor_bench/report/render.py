"""Tables as terminal text, Markdown, CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import IO, Any

import pandas as pd

from meteor_bench.plain import plain
from meteor_bench.report import tables
from meteor_bench.report.cells import Cell
from meteor_bench.report.layout import lay_out

__all__ = ["FORMATS", "as_csv", "as_json", "as_markdown", "as_terminal"]


def as_terminal(cells: Sequence[Cell], stream: IO[str], width: int | None = None) -> None:
    """Print the tables that fit a terminal.

    Args:
        width: columns; None for those of the terminal (80 where there is none).
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(file=stream, width=width, highlight=False, markup=False)
    for table in lay_out(cells):
        if table.wide:
            continue
        grid = RichTable(
            title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
        )
        for i, column in enumerate(table.columns):
            grid.add_column(column, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
        for i, row in enumerate(table.rows):
            if i in table.breaks:
                grid.add_section()
            grid.add_row(*row)
        console.print(grid)
        for note in table.notes:
            console.print(note)
        console.print()


def as_markdown(cells: Sequence[Cell]) -> str:
    """All tables as GitHub Markdown."""
    parts = []
    for table in lay_out(cells):
        lines = [f"### {table.title}", "", _markdown_row(table.columns)]
        lines.append(_markdown_row(["---" if i == 0 else "---:" for i in range(len(table.columns))]))
        lines += [_markdown_row(row) for row in table.rows]
        lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def as_csv(cells: Sequence[Cell]) -> str:
    """Every number of every table, a line each: table, model, method, ratio, seeds, name, column, value."""
    keys = ["table", "model", "method", "ratio", "seeds", "name"]
    long = []
    for name, frame in _frames(cells).items():
        if frame.empty:
            continue
        frame = frame.assign(table=name)
        if "unit" in frame:
            frame["name"] = frame["name"] + ", " + frame["unit"]
        numbers = [c for c in frame.columns if c not in keys and pd.api.types.is_numeric_dtype(frame[c])]
        numbers = [c for c in numbers if frame[c].dtype != bool]
        melted = frame.melt(id_vars=keys, value_vars=numbers, var_name="column", ignore_index=False)
        long.append(melted.sort_index(kind="stable").dropna(subset="value"))
    text: str = pd.concat(long).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text


def as_json(cells: Sequence[Cell]) -> str:
    """The frames row by row, with the records that they come from."""
    document = {
        "schema": cells[0].record.schema,
        "tables": {name: [_clean(row) for row in frame.to_dict("records")] for name, frame in _frames(cells).items()},
        "runs": [
            {"folder": run.path.name, **{k: v for k, v in plain(run.record).items() if k not in ("tasks", "tokens")}}
            for cell in cells
            for run in cell.runs
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS = {"markdown": as_markdown, "csv": as_csv, "json": as_json}


def _frames(cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    return {"accuracy": tables.accuracy(cells), "tokens": tables.tokens(cells), "latency": tables.latency(cells)}


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """Without the cells that a row does not have (NaN is no JSON), six digits as in the CSV."""
    return {
        key: float(f"{value:.6g}") if isinstance(value, float) else value
        for key, value in row.items()
        if not (isinstance(value, float) and math.isnan(value))
    }


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
