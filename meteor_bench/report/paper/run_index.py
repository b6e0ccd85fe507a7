"""Runs on disk as a paper's table needs them: which benchmarks it is of, and which cell a row is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from meteor_bench.data import suites
from meteor_bench.models.locate import short_name
from meteor_bench.records.run_folder import find_runs
from meteor_bench.report.paper.numbers import Column, PaperTable, Run
from meteor_bench.report.runs import Cell, cells, load_run
from meteor_bench.report.sections import Section, sections
from meteor_bench.utils.structuring import plain

__all__ = ["Asked", "RunIndex", "benchmarks", "task_of"]

# A run at 0.889 is one at a paper's 8/9: less than a token apart on all models that the tables are of.
SAME_RATIO = 5e-4


class Asked(NamedTuple):
    """Benchmarks that a run is asked.

    Attributes:
        tasks: by name, as far as this installation has them.
        whole: whether these are all that the table means.
    """

    tasks: tuple[str, ...]
    whole: bool


def benchmarks(table: PaperTable, columns: Sequence[Column], model: str) -> Asked:
    """The benchmarks that a run of a table is asked on a model."""
    wanted = table.suites["pocket" if short_name(model).startswith("pocket") else "other"]
    known = suites.task_names()
    if not isinstance(wanted, str):
        tasks = tuple(task for task in wanted if task in known)
        return Asked(tasks, len(tasks) == len(wanted))
    if wanted in suites.suite_names():
        return Asked(suites.suite_tasks(wanted), True)
    there = [task for column in columns for task in column.tasks if task in known]
    return Asked(tuple(dict.fromkeys(there)), False)


def task_of(column: Column, asked: Sequence[str]) -> str | None:
    """The benchmark of those asked that a column shows, by its name or because it mirrors it."""
    for task in column.tasks:
        for name in asked:
            if task in (name, suites.benchmark(name).mirrors):
                return name
    return None


class RunIndex:
    """Finished runs.

    Args:
        cells: their cells.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self._frames: dict[tuple[int, str], pd.DataFrame] = {}

    @classmethod
    def of(cls, folder: Path, limit: int | None = None) -> RunIndex:
        """The finished runs in a folder.

        Args:
            folder: of runs; may be missing or empty.
            limit: only runs of as many questions per benchmark.

        Raises:
            RecordError: a record in it is broken.
        """
        there = folder.is_dir() and ((folder / "run.json").exists() or any(folder.glob("*/run.json")))
        runs = [load_run(path) for path in find_runs(folder)] if there else []
        # What was asked of look-alikes has no place beside a paper's numbers.
        finished = [run for run in runs if run.record.status == "complete" and not run.record.lookalike]
        return cls(cells(run for run in finished if run.record.config.limit == limit))

    @property
    def models(self) -> set[str]:
        """The models that were named."""
        return {short_name(cell.record.config.model) for cell in self.cells}

    def frame(self, cell: Cell, make: Callable[[Section], pd.DataFrame]) -> pd.DataFrame:
        """A cell's rows of a report's frame, made once: a cell stands in several tables."""
        key = id(cell), make.__name__
        if key not in self._frames:
            section, row = next((s, at) for s in sections([cell]) for at, one in enumerate(s.cells) if one is cell)
            frame = make(section)
            self._frames[key] = frame[frame["row"] == row] if len(frame) else frame
        return self._frames[key]

    def find(self, model: str, run: Run, asked: Sequence[str], *, timed: bool = False) -> Cell | None:
        """The newest cell of a run that answered all these benchmarks; papers' ratios are of the final tokens."""
        wanted = (short_name(run.model or model), run.method, plain(run.parameters), run.stages, run.positions)
        found = [
            cell
            for cell in self.cells
            if cell.match == "tokens"
            and _setting(cell) == wanted
            and abs(cell.ratio - run.ratio) < SAME_RATIO
            and {task.task for task in cell.record.tasks} >= set(asked)
            and (not timed or any(run.latency for run in cell.runs))
        ]
        return max(found, key=lambda cell: cell.record.started, default=None)


def _setting(cell: Cell) -> tuple[Any, ...]:
    config = cell.record.config
    return (short_name(config.model), config.method, plain(config.parameters), config.stages, config.positions)
