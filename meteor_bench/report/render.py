"""Cells as a document: `document(load(folder)).render("markdown")` is a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from meteor_bench.report import formats
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.counts import tokens
from meteor_bench.report.document import Document
from meteor_bench.report.layout import lay_out
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.times import latency
from meteor_bench.utils.structuring import plain

__all__ = ["KEYS", "document", "frames", "named"]

# What a line of CSV is about.
ABOUT = ("model", "benchmarks", "questions", "data", "method", "ratio", "match", "seeds")
KEYS = (*ABOUT, "kind", "name", "group", "metric", "unit", "source")


def document(cells: Sequence[Cell]) -> Document:
    """The tables of a report: a line of CSV per table, setting and name; JSON has the records besides."""
    return Document(lambda: lay_out(cells), lambda: frames(cells), KEYS, lambda: _data(cells))


def _data(cells: Sequence[Cell]) -> dict[str, Any]:
    """The frames row by row, with the records that they come from."""
    return {
        "schema": cells[0].record.schema,
        "tables": {name: formats.json_rows(frame) for name, frame in frames(cells).items()},
        "runs": [
            {"folder": run.path.name, **{k: v for k, v in plain(run.record).items() if k not in ("tasks", "tokens")}}
            for cell in cells
            for run in cell.runs
        ],
    }


def frames(cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    """Frames "accuracy", "tokens", "latency", a row per number with what it is about (`KEYS`); nothing is rounded."""
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
            "questions": section.questions,
            "data": section.data,
            "method": [
                label.removeprefix(cell.prefix) for cell, label in zip(section.cells, section.labels, strict=True)
            ],
            "ratio": [cell.ratio for cell in section.cells],
            "match": section.match,
            "seeds": [",".join(map(str, cell.seeds)) for cell in section.cells],
        }
    )
    source = {} if "source" in frame else {"source": "measured"}
    return frame.drop(columns="row").assign(**about.loc[frame["row"]].reset_index(drop=True), **source)
