"""Runs read from disk and put together: seeds of one setting into a cell, each cell beside its unpruned run."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meteor_bench.errors import RecordError
from meteor_bench.plain import plain
from meteor_bench.provenance import fingerprint
from meteor_bench.records import LatencySample, RunRecord, SampleRecord
from meteor_bench.store import find_complete, find_runs, read_latency, read_run, read_samples

__all__ = ["Cell", "Run", "Scores", "load", "load_run"]


@dataclass(frozen=True)
class Run:
    """A run's folder in memory."""

    path: Path
    record: RunRecord
    samples: Sequence[SampleRecord]
    latency: Sequence[LatencySample]


class Scores(NamedTuple):
    """Scores of one benchmark, by document.

    Attributes:
        score: doc_id -> score of 0 to 1, the mean over the seeds.
        media: doc_id -> cluster label.
    """

    score: Mapping[int, float]
    media: Mapping[int, Hashable]


@dataclass(frozen=True)
class Cell:
    """The runs of one setting that differ only in their seed, and the unpruned run of the same questions.

    Attributes:
        runs: at least one, in the order of their seeds.
        unpruned: None for an unpruned cell, and where no such run was found.
    """

    runs: tuple[Run, ...]
    unpruned: Cell | None = None

    @property
    def record(self) -> RunRecord:
        """The record of the first seed; everything but scores, counts and times is the same for all."""
        return self.runs[0].record

    @property
    def label(self) -> str:
        """The setting in words, `RunConfig.label`."""
        return self.record.config.label

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return [run.record.config.seed for run in self.runs]

    @property
    def notes(self) -> list[str]:
        """Substitutions that the engine made on any sample."""
        return list(dict.fromkeys(note for run in self.runs for s in run.samples for note in s.notes))

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """Scores per benchmark, averaged over the seeds."""
        sums: dict[str, dict[int, float]] = {task.task: {} for task in self.record.tasks}
        media: dict[str, dict[int, Hashable]] = {task.task: {} for task in self.record.tasks}
        for run in self.runs:
            for s in run.samples:
                sums[s.task][s.doc_id] = sums[s.task].get(s.doc_id, 0.0) + s.score / len(self.runs)
                media[s.task][s.doc_id] = s.media_key
        return {task: Scores(sums[task], media[task]) for task in sums}

    def headline(self, task: str) -> np.ndarray:
        """[seeds] the headline metric of a benchmark, on a scale of 0 to 100."""
        return np.array([t.score for run in self.runs for t in run.record.tasks if t.task == task])


def load(path: Path) -> list[Cell]:
    """The cells of a run's folder or of a folder of runs.

    Raises:
        RecordError: nothing is there, a file is broken, a run is unfinished, or runs of one setting answered different
            questions.
    """
    folders = find_runs(path)
    runs = [load_run(folder) for folder in folders]
    unfinished = [run.path for run in runs if run.record.status != "complete"]
    if len(unfinished) == len(runs):
        raise RecordError(f"{unfinished[0]} is unfinished; give the same `run` command again and it resumes")
    return cells([run for run in runs if run.record.status == "complete"])


def load_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        RecordError: a file is missing or broken.
    """
    record = read_run(folder)
    samples = read_samples(folder) if record.status == "complete" else []
    unknown = {s.task for s in samples} - {t.task for t in record.tasks}
    if unknown:
        raise RecordError(f"{folder}: samples of {', '.join(sorted(unknown))}, which run.json does not list")
    return Run(folder, record, samples, read_latency(folder))


def cells(runs: Iterable[Run]) -> list[Cell]:
    """Group runs that differ only in their seed; an unpruned run that is not among them is looked for beside them."""
    groups: dict[str, list[Run]] = {}
    newest: dict[str, Run] = {run.record.fingerprint: run for run in runs}  # a repeated run: the later folder counts
    for run in newest.values():
        groups.setdefault(_setting(run.record), []).append(run)
    result = []
    for group in groups.values():
        group.sort(key=lambda run: run.record.config.seed)
        _same_questions(group)
        result.append(Cell(tuple(group), _unpruned(group[0], newest)))
    return sorted(result, key=lambda cell: (cell.record.config.method != "none", cell.record.config.ratio, cell.label))


def _unpruned(run: Run, known: Mapping[str, Run]) -> Cell | None:
    wanted = run.record.baseline
    if wanted is None:
        return None
    found = known.get(wanted)
    if found is None:
        folder = find_complete(run.path.parent, wanted)
        found = load_run(folder) if folder else None
    if found is None:
        return None
    _same_questions([run, found])
    return Cell((found,))


def _setting(record: RunRecord) -> str:
    config: dict[str, Any] = plain(record.config)
    del config["seed"], config["out"], config["baseline"], config["batch_size"]
    return fingerprint({"config": config, "baseline": record.baseline, "code": record.environment.code})


def _same_questions(runs: Sequence[Run]) -> None:
    """Refuse to compare what was not measured on the same documents."""
    first, *others = runs
    expected = {t.task: (t.n, t.data) for t in first.record.tasks}
    for other in others:
        found = {t.task: (t.n, t.data) for t in other.record.tasks}
        if found != expected:
            tasks = sorted(t for t in expected.keys() | found.keys() if expected.get(t) != found.get(t))
            raise RecordError(
                f"{first.path} and {other.path} answered different questions in {', '.join(tasks)}; "
                "run both on the same data and --limit"
            )
