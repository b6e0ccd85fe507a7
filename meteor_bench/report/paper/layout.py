"""A paper's tables with our numbers: text for people, frames for programs.

Where the runs are of the paper's own model, our number stands beside the reported one. On any other model the two
are kept apart, in tables of their own: they say nothing about each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pandas as pd

from meteor_bench.models.locate import short_name
from meteor_bench.report.paper.measured import Numbers, Value
from meteor_bench.report.paper.numbers import CONFIDENCE, Column, Paper, PaperTable, Reported, Row
from meteor_bench.report.paper.run_index import Asked, RunIndex, benchmarks, task_of
from meteor_bench.report.runs import ADAPTATION, Cell
from meteor_bench.report.table import REPORTED, Table, fixed

__all__ = ["Filled", "Origin", "frame", "sides", "tables"]

# Whose numbers a table holds.
Origin = Literal["measured", "reported", "both"]
NOT_REPRODUCED = "†"


@dataclass(frozen=True)
class Filled:
    """A paper's table with what was measured on a model.

    Attributes:
        paper, table: whose it is.
        model: that the runs are of.
        index: where they are looked for.
    """

    paper: Paper
    table: PaperTable
    model: str
    index: RunIndex

    @property
    def same_model(self) -> bool:
        """Whether the figures were reported for this model."""
        return short_name(self.model).lower() in self.table.like

    def beside(self, row: Row) -> bool:
        """Whether a row's reported figures are of the model that it is run on here."""
        return self.same_model or (row.run is not None and row.run.model is not None)

    @cached_property
    def columns(self) -> list[Column]:
        """All columns of the table."""
        return self.paper.columns_of(self.table)

    @cached_property
    def asked(self) -> Asked:
        """The benchmarks of the table on this model, or on those that its rows name."""
        named = [run.model for row in self.table.rows for run in row.runs if run.model]
        return benchmarks(self.table, self.columns, named[0] if named else self.model)

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """The runs of each row; none where one is missing."""
        found = [[self.index.find(self.model, run, self.asked.tasks) for run in row.runs] for row in self.table.rows]
        return [[cell for cell in cells if cell and None not in cells and self.asked.tasks] for cells in found]

    @cached_property
    def measured(self) -> list[dict[str, Value]]:
        """Per row, column name -> number; what is not known is missing."""
        return [self._numbers(row, cells) for row, cells in zip(self.table.rows, self.cells, strict=True)]

    @cached_property
    def notes(self) -> list[str]:
        """What was special about the runs: another variant of the model, substitutes."""
        said: dict[str, list[str]] = {}
        for row, cells in zip(self.table.rows, self.cells, strict=True):
            for cell in cells:
                notes = [*cell.notes, *([ADAPTATION] if cell.adapted else [])]
                if cell.record.model != short_name(cell.record.config.model):
                    notes.append(f"runs on {cell.record.model}")
                for note in notes:
                    said.setdefault(note, []).append(row.name)
        return [f"{'; '.join(dict.fromkeys(names))}: {note}." for note, names in said.items()]

    def shown(self, column: Column) -> bool:
        """Whether this column can be measured on this model."""
        if column.is_ == "benchmark":
            return task_of(column, self.asked.tasks) is not None
        return bool(self.asked.tasks)

    @property
    def baseline(self) -> str:
        """Whether the unpruned model reproduces its reference: "reproduces", "does not reproduce", "not compared"."""
        if self.deviations:
            return "does not reproduce"
        pairs = zip(self.table.rows, self.measured, strict=True)
        compared = any(_unpruned(row) and self.beside(row) and row.reported and numbers for row, numbers in pairs)
        return "reproduces" if compared else "not compared"

    @cached_property
    def deviations(self) -> dict[str, str]:
        """Column name -> how the unpruned row misses its reference by more than its interval."""
        found = {}
        for row, numbers in zip(self.table.rows, self.measured, strict=True):
            if not (_unpruned(row) and self.beside(row)):
                continue
            for column, reported in zip(self.columns, row.reported, strict=False):
                value = numbers.get(column.name)
                if value is None or value.low is None or value.high is None or not isinstance(reported, float):
                    continue
                if not value.low <= reported <= value.high:
                    bounds = f"[{fixed(value.low, column.digits)}, {fixed(value.high, column.digits)}]"
                    ours = f"{column.title} {fixed(value.value, column.digits)} {bounds}"
                    found[column.name] = f"{ours}, reported {said(reported, column)}"
        return found

    def _numbers(self, row: Row, cells: Sequence[Cell]) -> dict[str, Value]:
        """A row's numbers, or the differences of its two runs'."""
        numbers = [Numbers(self.index, cell, self.columns, self.asked, self.beside(row)) for cell in cells]
        found = {}
        for column in self.columns if numbers else ():
            value = numbers[0].get(column)
            if value is not None and row.minus:
                other = numbers[1].get(column)
                value = None if other is None else Value(value.value - other.value)
            if value is not None:
                found[column.name] = value
        return found


def _unpruned(row: Row) -> bool:
    return row.run is not None and row.run.method == "none"


def tables(filled: Sequence[Filled]) -> list[Table]:
    """All tables as people read them."""
    return [table for one in filled for _, table in sides(one)]


def sides(one: Filled) -> list[tuple[Origin, Table]]:
    """A paper's table as one, or as what was measured here and what was reported for another model."""
    if any(one.beside(row) for row in one.table.rows):
        made: list[tuple[Origin, Table]] = [("both", _beside(one))]
    else:
        made = _apart(one)
    return [(origin, table) for origin, table in made if table.rows]


def _beside(one: Filled) -> Table:
    """Our number, then the reported one in brackets."""
    rows = []
    for row, numbers in zip(one.table.rows, one.measured, strict=True):
        reported: Sequence[Reported] = row.reported or [None] * len(one.columns)
        rows.append([row.name, *(_pair(numbers.get(c.name), r, c) for c, r in zip(one.columns, reported, strict=True))])
    heads = [c.title + NOT_REPRODUCED * (c.name in one.deviations) for c in one.columns]
    title = f"{one.paper.title}: {one.table.title}"
    told = f"In brackets, {REPORTED}, for {one.table.model}: {_source(one)}."
    notes = [*one.table.notes, *one.notes, told]
    if one.deviations:
        title += f" {NOT_REPRODUCED} baseline does not reproduce"
        notes.append(f"{NOT_REPRODUCED} The unpruned model misses its reference: {'; '.join(one.deviations.values())}.")
    return Table(title, ["", *heads], rows, _breaks(one.table.rows), notes)


def _apart(one: Filled) -> list[tuple[Origin, Table]]:
    """What was measured here, then what was reported for another model."""
    model, name = short_name(one.model), f"{one.paper.title}: {one.table.title}"
    columns = [column for column in one.columns if one.shown(column)]
    left_out = [column.title for column in one.columns if column not in columns]
    pairs = [(row, numbers) for row, numbers in zip(one.table.rows, one.measured, strict=True) if row.run]
    notes = [
        f"Measured on {model}, not the paper's model: the same comparison, not the same numbers.",
        *one.table.notes,
        *one.notes,
    ]
    notes += [f"No benchmark of {model} for: {', '.join(left_out)}."] if left_out else []
    ours = Table(
        f"{name}, on {model}",
        ["", *(column.title for column in columns)],
        [[row.name, *(_ours(numbers.get(column.name), column) for column in columns)] for row, numbers in pairs],
        _breaks([row for row, _ in pairs]),
        notes,
    )
    told = [row for row in one.table.rows if row.reported]
    theirs = Table(
        f"{one.paper.title} {one.table.name}, reported{REPORTED} for another model",
        ["", *(column.title for column in one.columns)],
        [[row.name, *(said(r, c) for c, r in zip(one.columns, row.reported, strict=True))] for row in told],
        _breaks(told),
        [f"{one.table.title}. Model: {one.table.model}. {REPORTED} {_source(one)}."],
    )
    return [("measured", ours), ("reported", theirs)] if columns else [("reported", theirs)]


def _breaks(rows: Sequence[Row]) -> frozenset[int]:
    return frozenset(at for at, row in enumerate(rows) if row.section and at)


def _source(one: Filled) -> str:
    source = one.paper.sources[one.table.source]
    read = CONFIDENCE[source.confidence]
    return f'reported in "{source.title}" ({source.where}); confidence {source.confidence}: {read}'


def _ours(value: Value | None, column: Column) -> str:
    if value is None:
        return ""
    if column.is_ == "tflops" and value.value < 1:
        return f"{value.value:.2g}"
    digits = 1 if column.is_ in ("benchmark", "time") else column.digits
    return fixed(value.value, digits)


def _pair(value: Value | None, reported: Reported, column: Column) -> str:
    ours = "" if value is None else fixed(value.value, column.digits)
    theirs = "" if reported is None else f"({said(reported, column)}{REPORTED})"
    return f"{ours} {theirs}".strip()


def said(reported: Reported, column: Column) -> str:
    """A reported figure with the digits that it was given with."""
    if reported is None:
        return ""
    if isinstance(reported, str):
        return reported
    given = len(f"{reported:g}".partition(".")[2])
    return f"{reported:.{max(column.digits, given)}f}"


def frame(one: Filled) -> pd.DataFrame:
    """A row per number, measured or reported; nothing is rounded.

    Columns: row, column; origin ("measured", "reported"); model; value (or text, where a figure is no number) and its
    95 % interval low..high; source and confidence of a reported one; mark ("baseline does not reproduce").
    """
    source = one.paper.sources[one.table.source]
    cited = {"source": f"{source.title} ({source.where})", "confidence": source.confidence}
    rows = []
    for row, numbers in zip(one.table.rows, one.measured, strict=True):
        model = short_name(row.run.model if row.run and row.run.model else one.model)
        for at, column in enumerate(one.columns):
            mark = {"mark": "baseline does not reproduce"} if column.name in one.deviations else {}
            about = {"row": row.name, "column": column.name, **mark}
            if (value := numbers.get(column.name)) is not None:
                rows.append({**about, "origin": "measured", "model": model, **vars(value)})
            if row.reported and (figure := row.reported[at]) is not None:
                told = {"text": figure} if isinstance(figure, str) else {"value": figure}
                rows.append({**about, "origin": "reported", "model": one.table.model, **told, **cited})
    names = ["row", "column", "origin", "model", "value", "text", "low", "high", "source", "confidence", "mark"]
    return pd.DataFrame(rows, columns=names)
