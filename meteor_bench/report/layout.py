"""Cells into the tables that people read.

One setting is shown benchmark by benchmark beside its unpruned run; several settings are shown a row each, model by
model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from meteor_bench.core.match import WORDS
from meteor_bench.records.schema import LOOKALIKES, RunRecord
from meteor_bench.report import comparison_tables, single_tables
from meteor_bench.report.accuracy import METEOR_AVERAGE, METEOR_GROUPS, accuracy, few_images
from meteor_bench.report.counts import tokens
from meteor_bench.report.failures import failures
from meteor_bench.report.runs import ADAPTATION, Cell
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.statistics import FEW
from meteor_bench.report.table import FEW_IMAGES, INFERRED, MARKS, Table
from meteor_bench.report.times import latency

__all__ = ["latency_notes", "lay_out", "notes", "overview"]

SAME = (
    "Agreement: how often an answer is the unpruned model's own about the same picture, but for case and punctuation. "
    "Nobody says which answers are right, so that it is no accuracy."
)


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
            several = len({other.tasks for other in parts if other.model == section.model}) > 1
            where = f"{section.model}, {len(section.tasks)} benchmarks" if several else section.model
            where += section.of
            tables += [replace(table, title=f"{table.title}: {where}") for table in made]
    return [table for table in tables if table.rows]


def overview(cells: Sequence[Cell]) -> list[Table]:
    """One table for each model and set of benchmarks: every setting by every benchmark.

    Raises:
        RecordError: as for `lay_out`.
    """
    tables = []
    for section in sections(cells):
        made = comparison_tables.overview_table(
            section, accuracy(section), tokens(section), notes(section, section.cells)
        )
        n = len(section.tasks)
        tables.append(replace(made, title=f"{section.model}, {n} benchmark{'s' * (n > 1)}{section.of}"))
    return tables


def _single(section: Section, row: int) -> list[Table]:
    cell = section.cells[row]
    frames = [_of(frame, row) for frame in (accuracy(section), tokens(section), latency(section))]
    said = notes(section, [cell])
    made = [
        single_tables.accuracy_table(cell, frames[0], said),
        single_tables.tokens_table(cell, frames[1]),
        single_tables.latency_table(cell, frames[2], latency_notes(frames[2])),
    ]
    return [replace(table, title=f"{table.title}{section.apart}") for table in made]


def _several(section: Section) -> list[Table]:
    times, counts = latency(section), tokens(section)
    faster = "faster: end to end, median over the requests of unpruned / pruned, timed in turn, ± its 95 % interval."
    return [
        *comparison_tables.accuracy_tables(section, accuracy(section), notes(section, section.cells)),
        comparison_tables.tokens_table(section, counts),
        comparison_tables.removed_table(section, counts),
        comparison_tables.latency_table(
            section, times, [*latency_notes(times), f"{faster} GFLOPs: to the first token."]
        ),
    ]


def _of(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    return frame[frame["row"] == row] if len(frame) else frame


def notes(section: Section, cells: Sequence[Cell]) -> list[str]:
    """What holds for all numbers of some of a section's cells."""
    record = cells[-1].record
    groups = {task.group for task in record.tasks}
    notes = [
        *_environments(section, cells),
        *([SAME] if cells[-1].what != "Accuracy" else []),
        *([f"Ratios are of the {WORDS[section.match]}."] if section.match != "tokens" else []),
        "Intervals: 95 %, clustered by image, never narrower than if no answer had differed; differences are paired, "
        "in points of 100.",
        *([f"METEOR average: {METEOR_AVERAGE}."] if groups >= set(METEOR_GROUPS) else []),
        *([f"{LOOKALIKES.capitalize()}."] if any(cell.record.lookalike for cell in cells) else []),
        *_few_images(section),
        *_rescaled(record),
    ]
    if len(cells) > 1 and (alone := [cell for cell in cells if cell.pruned and not cell.unpruned]):
        notes.append(f"No record of the unpruned model was found for {', '.join(_names(section, alone, cells))}.")
    for model in sorted({cell.record.model for cell in cells if cell.pruned} - {record.config.model}):
        methods = sorted({cell.label for cell in cells if cell.record.model == model})
        notes.append(f"{', '.join(methods)} runs on {model}; unpruned is {record.config.model}.")
    if any(cell.adapted for cell in cells):
        notes.append(f"†: {ADAPTATION} of a method that is published with training.")
    for note in dict.fromkeys(note for cell in cells for note in cell.notes):
        about = [cell for cell in cells if note in cell.notes]
        notes.append(f"{', '.join(_names(section, about, cells))}: {note}.")
    return [*notes, *failures(cells, lambda about: _names(section, about, cells))]


def _environments(section: Section, cells: Sequence[Cell]) -> list[str]:
    """What the numbers were measured with; where that is not the same for all, whose it is."""
    about: dict[str, list[Cell]] = {}
    for cell in cells:
        env = cell.record.environment
        device = env.device if env.device != "cpu" else env.processor
        libraries = f"lmms-eval {env.lmms_eval}, torch {env.torch}, transformers {env.transformers}"
        about.setdefault(f"{libraries}, {env.dtype}, {device}, {env.threads} thread(s)", []).append(cell)
    if len(about) == 1:
        return [f"Measured here, nothing copied: {text}." for text in about]
    return [f"Measured here, nothing copied: {', '.join(_names(section, c, cells))}: {t}." for t, c in about.items()]


def _few_images(section: Section) -> list[str]:
    few = few_images(section)
    if not few:
        return []
    counts = ", ".join(f"{task} {count}" for task, count in few.items())
    return [f"{FEW_IMAGES} on fewer than {FEW} images ({counts}), where an interval may be too narrow."]


def _rescaled(record: RunRecord) -> list[str]:
    """Benchmarks whose own scale is neither 0 to 1 nor 0 to 100."""
    natives = [(t, t.metrics[t.metric]) for t in record.tasks if t.metric in t.metrics]
    return [
        f"{t.task} is rescaled: {native:g} of {t.metric.partition(',')[0]} enters as {t.score:.1f}."
        for t, native in natives
        if not any(math.isclose(native * scale, t.score, rel_tol=1e-4, abs_tol=1e-6) for scale in (1, 100))
    ]


def _names(section: Section, about: Sequence[Cell], cells: Sequence[Cell]) -> list[str]:
    """Some of the cells: a method by its name alone where all of its ratios are among them."""
    names = dict(zip(map(id, section.cells), comparison_tables.row_names(section), strict=True))
    chosen = {id(cell) for cell in about}
    whole = {cell.label for cell in about} - {cell.label for cell in cells if id(cell) not in chosen}
    return list(dict.fromkeys(cell.label if cell.label in whole else names[id(cell)] for cell in about))


def latency_notes(frame: pd.DataFrame) -> list[str]:
    """How the times of a frame were taken, and how steady they were."""
    timed = frame[frame["unit"] == "ms"] if len(frame) else frame
    if timed.empty:
        return []
    n = int(timed["n"].max())
    notes = [
        f"{n} requests, batch 1, nothing reused, both models in turn in one process. 1 multiply-add = 2 FLOPs.",
        f"{INFERRED} {MARKS[INFERRED]}; everything else is measured.",
    ]
    noisy = frame[(frame["name"] == "end to end") & (frame["iqr"] > 0.1)]
    if len(noisy) and not math.isnan(noisy["iqr"].max()):
        notes.append(
            f"Unsteady machine: the middle half of the end-to-end times spans {noisy['iqr'].max():.0%} of the median."
        )
    return notes
