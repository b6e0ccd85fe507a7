"""From cells to the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meteor_bench.core.errors import RecordError
from meteor_bench.core.match import of_ratio
from meteor_bench.records.reader import read_samples
from meteor_bench.records.schema import RunRecord, SampleRecord, worded
from meteor_bench.report import subscores
from meteor_bench.report.html.chapter import Chapter
from meteor_bench.report.html.data import settings
from meteor_bench.report.html.page import page
from meteor_bench.report.html.reported import reported
from meteor_bench.report.html.samples import MOST, choose, questions
from meteor_bench.report.layout import latency_notes, notes
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import Section, sections
from meteor_bench.report.times import latency
from meteor_bench.utils.atomic_io import check_writable, write_whole

# (runs of the settings in the page's order, the questions as the first of them recorded them) -> a picture each.
Draw = Callable[[Sequence[RunRecord], Sequence[SampleRecord]], list[dict[str, Any]]]

__all__ = ["Draw", "as_html", "chapters", "write"]

NO_PICTURES = (
    "No pictures of kept patches: this report was made from records alone. With the model and the data at hand, "
    "“meteor-bench report … --html FILE --pictures 12” draws them for twelve questions."
)


def write(cells: Sequence[Cell], path: Path, pictures: int = 0, draw: Draw | None = None) -> list[Path]:
    """Write the report; never half of it.

    Args:
        pictures: questions to draw the kept patches of; 0 needs records alone.
        draw: draws them by running the models (`runs.patches.report_pictures.draw`).

    Returns:
        Folders of runs that are not on the page, since they measured agreement with the unpruned model, no accuracy.

    Raises:
        RecordError: it cannot be written, a record is broken, or there is no accuracy to show.
        MeteorBenchError: with pictures: a model or its data are not here.
    """
    shown = [cell for cell in cells if cell.what == "Accuracy"]
    left_out = [run.path for cell in cells if cell.what != "Accuracy" for run in cell.runs]
    if not shown and left_out:
        raise RecordError(
            f"{left_out[0]} has no accuracy, which the page is of, but agreement with the unpruned model; "
            "leave --html out"
        )
    check_writable(path.parent)
    write_whole(path, as_html(shown, pictures, draw).encode())
    return left_out


def as_html(cells: Sequence[Cell], pictures: int = 0, draw: Draw | None = None) -> str:
    """The report as text."""
    return page(chapters(cells, pictures, draw))


def chapters(cells: Sequence[Cell], pictures: int = 0, draw: Draw | None = None, most: int = MOST) -> list[Chapter]:
    """What the page holds, a chapter for each model and set of benchmarks.

    Args:
        most: questions in a chapter.
    """
    return [_chapter(section, pictures, draw, most) for section in sections(cells)]


def _chapter(section: Section, pictures: int, draw: Draw | None, most: int) -> Chapter:
    answered = [read_samples(cell.runs[0].path) for cell in section.cells]
    asked = questions(answered, most)
    drawn: list[dict[str, Any]] = []
    if pictures and draw is not None:
        rows = {(s.task, s.doc_id): s for s in answered[0]}
        chosen = [rows[asked.task[i], asked.doc[i]] for i in choose(asked, pictures)]
        drawn = draw([cell.record for cell in section.cells], chosen)
    return Chapter(
        model=section.model,
        settings=settings(section),
        tasks={t.task: t.group for t in section.cells[0].record.tasks},
        facts=_facts(section.cells),
        notes=[*notes(section, section.cells), *latency_notes(latency(section))],
        runs=[_run(cell, label) for cell, label in zip(section.cells, section.labels, strict=True)],
        questions=asked,
        pictures=drawn,
        why_no_pictures="" if drawn else NO_PICTURES,
        reported=reported(section),
        subscores=list(subscores.tables(section)),
        match=section.match,
        apart=section.apart,
    )


def _facts(cells: Sequence[Cell]) -> Mapping[str, str]:
    """Where it was measured; several values where runs differ."""
    records = [cell.record for cell in cells]
    environments = [record.environment for record in records]
    found = {
        "device": [e.processor if e.device == "cpu" else e.device for e in environments],
        "threads": [str(e.threads) for e in environments],
        "dtype": [e.dtype for e in environments],
        "attention kernel": [e.kernel for e in environments],
        "system": [e.system for e in environments],
        "Python": [e.python for e in environments],
        "torch": [e.torch for e in environments],
        "transformers": [e.transformers for e in environments],
        "lmms-eval": [e.lmms_eval for e in environments],
        "meteor-bench": [e.meteor_bench for e in environments],
        "commit": [(e.commit or "unknown")[:12] for e in environments],
        "measured": [record.started[:10] for record in records],
    }
    return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items()}


def _run(cell: Cell, label: str) -> Mapping[str, str]:
    """Where a setting's records are, and what it ran with."""
    record = cell.record
    given = ", ".join(f"{name}: {worded(value)}" for name, value in record.parameters.items())
    return {
        "setting": f"{label} {100 * cell.ratio:g}\N{NO-BREAK SPACE}%{of_ratio(cell.match)}" if cell.pruned else label,
        "ran on": record.model,
        "seeds": ", ".join(map(str, cell.seeds)),
        "positions": record.positions,
        "checkpoint": record.checkpoint[:12],
        "fingerprint": record.fingerprint[:12],
        "parameters": given or "–",
        "records": ", ".join(run.path.name for run in cell.runs),
    }
