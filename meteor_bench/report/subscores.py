"""What a benchmark's score is made of: all that lmms-eval measured, and the mean of each kind of question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from meteor_bench.data.suites import benchmarks
from meteor_bench.records.schema import TaskRecord
from meteor_bench.report.comparison_tables import breaks, row_names
from meteor_bench.report.document import Document
from meteor_bench.report.render import KEYS, named
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.table import MISSING, Table, fixed

__all__ = ["document", "lay_out", "subscores", "tables"]


def subscores(section: Section) -> pd.DataFrame:
    """A row per cell and sub-score, the mean over the seeds.

    Columns: row (number of the cell in the section), kind ("metric": as lmms-eval gives it, on its scale; or "family":
    a kind of question, the mean score of its questions, 0 to 100), name (the benchmark), group, metric (which metric,
    or which family), score.
    """
    rows = [
        {"row": at, "kind": kind, "name": task.task, "group": task.group, "metric": name, "score": score}
        for at, cell in enumerate(section.cells)
        for task in cell.record.tasks
        for kind, name, score in _parts(cell, task)
    ]
    return pd.DataFrame(rows, columns=["row", "kind", "name", "group", "metric", "score"])


def lay_out(cells: Sequence[Cell]) -> list[Table]:
    """A table for each benchmark that has more to it than its score: a row per setting.

    Raises:
        RecordError: cells that belong together answered different documents.
    """
    return [table for section in sections(cells) for table in tables(section)]


def document(cells: Sequence[Cell]) -> Document:
    """The sub-scores of runs."""
    return Document(
        lambda: lay_out(cells),
        lambda: {"sub-scores": pd.concat([named(subscores(s), s) for s in sections(cells)], ignore_index=True)},
        KEYS,
        empty="no benchmark of these runs has sub-scores",
    )


def tables(section: Section) -> Iterator[Table]:
    """Those of a section, titled by benchmark and model."""
    frame = subscores(section)
    names = row_names(section)
    known = {name for row in benchmarks().values() for name in row.extra}
    for task, part in frame.groupby("name", sort=False):
        columns = part.drop_duplicates(["kind", "metric"])[["kind", "metric"]].to_records(index=False).tolist()
        if len(columns) < 2:
            continue
        found = {(r["row"], r["kind"], r["metric"]): r["score"] for r in part.to_dict("records")}
        rows = [
            [name, *(_shown(kind, found.get((at, kind, metric))) for kind, metric in columns)]
            for at, name in enumerate(names)
        ]
        notes = ["Metrics as lmms-eval gives them, on its scale."] if any(k == "metric" for k, _ in columns) else []
        if ours := [metric for _, metric in columns if metric in known]:
            notes.append(f"{', '.join(ours)}: ours, not lmms-eval's.")
        if any(kind == "family" for kind, _ in columns):
            notes.append("Kinds of question: the mean score of their questions, 0 to 100.")
        heads = ["", *(metric for _, metric in columns)]
        yield Table(f"{task}: {section.model}{section.apart}", heads, rows, breaks(section.cells), [" ".join(notes)])


def _parts(cell: Cell, task: TaskRecord) -> Iterator[tuple[str, str, float]]:
    records = [t for run in cell.runs for t in run.record.tasks if t.task == task.task]
    for kind, scores in (("metric", [t.metrics for t in records]), ("family", [t.families for t in records])):
        for name in sorted(scores[0], key=_number):
            values: list[Any] = [of_seed[name] for of_seed in scores if name in of_seed]
            yield kind, name.removesuffix(",none"), float(np.mean(values))


def _number(name: str) -> int:
    """Families that are numbers, say of seconds, come in their order; all others as they are."""
    return int(name) if name.isdecimal() else 0


def _shown(kind: str, score: float | None) -> str:
    if score is None:
        return MISSING
    return fixed(score) if kind == "family" else f"{score:.4g}"
