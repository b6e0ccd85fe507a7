"""What a pass to the first logits would launch on a GPU, as a table, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import pandas as pd

from meteor_bench.report import formats
from meteor_bench.report.table import Table
from meteor_bench.runs.latency.launches import CHOOSING, Launches
from meteor_bench.utils.structuring import plain

__all__ = ["FORMATS", "as_csv", "as_json", "as_latex", "as_markdown", "as_terminal"]


def as_terminal(found: Sequence[Launches], stream: IO[str]) -> None:
    """Print the table."""
    formats.terminal([_table(found)], stream)


def as_markdown(found: Sequence[Launches]) -> str:
    """The table as GitHub Markdown."""
    return formats.markdown([_table(found)])


def as_latex(found: Sequence[Launches]) -> str:
    """The table as LaTeX (booktabs)."""
    return formats.latex([_table(found)])


def as_csv(found: Sequence[Launches]) -> str:
    """A line for each method, batch size and stage."""
    rows = [
        {"method": row.name, "batch": row.batch, "stage": stage or "none"}
        | {"kernels": row.kernels.get(stage, 0), "waits": row.waits.get(stage, 0)}
        for row in found
        for stage in sorted({*row.kernels, *row.waits})
    ]
    return formats.csv({"launches": pd.DataFrame(rows)}, ())


def as_json(found: Sequence[Launches]) -> str:
    """Everything."""
    return json.dumps({"launches": [plain(row) for row in found]}, indent=1, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Launches]], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": as_json,
}


def _table(found: Sequence[Launches]) -> Table:
    """A row per contender and batch size."""
    heads = ["", "batch", "waits: choosing", "total", "kernels: choosing", "total"]
    rows, notes = [], []
    for row in found:
        if row.failure:
            notes.append(f"{row.name}: {row.failure}")
            continue
        each = [(counts.get(CHOOSING, 0), sum(counts.values())) for counts in (row.waits, row.kernels)]
        rows.append([row.name, str(row.batch), *(str(number) for pair in each for number in pair)])
        if row.mixed:
            notes.append(f"{row.name}, batch {row.batch}: {row.mixed} operations mix devices")
    notes.append(
        "Between the pixels and the first logits, on a pretended GPU, after one pass that is not counted. choosing: a "
        "method's decisions, what it reads for them, and their application. A sort counts as four kernels."
    )
    return Table("What a GPU would be sent", heads, rows, notes=notes)
