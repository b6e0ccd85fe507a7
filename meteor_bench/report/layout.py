"""Cells into the tables that people read.

One setting is shown benchmark by benchmark beside its unpruned run; several settings are shown a row each, model by
model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from meteor_bench.report import many, one
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.cells import ADAPTATION, Cell
from meteor_bench.report.counts import tokens
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.table import INFERRED, Table
from meteor_bench.report.times import latency

__all__ = ["lay_out"]


def lay_out(cells: Sequence[Cell]) -> list[Table]:
    """Accuracy, tokens and latency of the cells; a table without rows is left out.

    Raises:
        RecordError: a file is broken, or cells that belong together answered different documents.
    """
    parts = sections(cells)
    tables = []
    for section in parts:
        pruned = [cell for cell in section.cells if cell.pruned]
        if len(pruned) == 1 or len(section.cells) == 1:
            tables += _single(section, section.cells.index(pruned[0]) if pruned else 0)
        else:
            made = _several(section)
            several = sum(other.model == section.model for other in parts) > 1
            where = f"{section.model}, {len(section.tasks)} benchmarks" if several else section.model
            tables += [replace(table, title=f"{table.title}: {where}") for table in made]
    return [table for table in tables if table.rows]


def _single(section: Section, row: int) -> list[Table]:
    cell = section.cells[row]
    frames = [_of(frame, row) for frame in (accuracy(section), tokens(section), latency(section))]
    notes = _notes(section, [cell])
    return [
        one.accuracy_table(cell, frames[0], notes),
        one.tokens_table(cell, frames[1]),
        one.latency_table(cell, frames[2], _latency_notes(frames[2])),
    ]


def _several(section: Section) -> list[Table]:
    times = latency(section)
    faster = "faster: end to end, median over the requests of unpruned / pruned, timed in turn, ± its 95 % interval."
    return [
        *many.accuracy_tables(section, accuracy(section), _notes(section, section.cells)),
        many.tokens_table(section, tokens(section)),
        many.latency_table(section, times, [*_latency_notes(times), f"{faster} GFLOPs: to the first token."]),
    ]


def _of(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    return frame[frame["row"] == row] if len(frame) else frame


def _notes(section: Section, cells: Sequence[Cell]) -> list[str]:
    """What holds for all numbers of a report."""
    record = cells[-1].record
    env = record.environment
    device = env.device if env.device != "cpu" else env.processor
    notes = [
        f"Measured here, nothing copied: lmms-eval {env.lmms_eval}, torch {env.torch}, "
        f"transformers {env.transformers}, {env.dtype}, {device}, {env.threads} thread(s).",
        "Intervals: 95 %, clustered by image, never narrower than if no answer had differed; differences are paired, "
        "in points of 100.",
    ]
    for model in sorted({cell.record.model for cell in cells if cell.pruned} - {record.config.model}):
        methods = sorted({cell.label for cell in cells if cell.record.model == model})
        notes.append(f"{', '.join(methods)} runs on {model}; unpruned is {record.config.model}.")
    if any(cell.adapted for cell in cells):
        notes.append(f"†: {ADAPTATION} of a method that is published with training.")
    return notes + [f"{', '.join(_who(section, cells, note))}: {note}." for note in _all_notes(cells)]


def _all_notes(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(note for cell in cells for note in cell.notes))


def _who(section: Section, cells: Sequence[Cell], note: str) -> list[str]:
    """Those that a note is about: a method by its name alone where it is about all of its ratios."""
    names = dict(zip(map(id, section.cells), many.row_names(section), strict=True))
    about = [cell for cell in cells if note in cell.notes]
    whole = {cell.label for cell in about} - {cell.label for cell in cells if note not in cell.notes}
    return list(dict.fromkeys(cell.label if cell.label in whole else names[id(cell)] for cell in about))


def _latency_notes(frame: pd.DataFrame) -> list[str]:
    if frame.empty:
        return []
    n = int(frame["n"].max())
    notes = [
        f"{n} requests, batch 1, nothing reused, both models in turn in one process. 1 multiply-add = 2 FLOPs.",
        f"{INFERRED} inferred from closed forms; everything else is measured.",
    ]
    noisy = frame[(frame["name"] == "end to end") & (frame["iqr"] > 0.1)]
    if len(noisy) and not math.isnan(noisy["iqr"].max()):
        notes.append(
            f"Unsteady machine: the middle half of the end-to-end times spans {noisy['iqr'].max():.0%} of the median."
        )
    return notes
