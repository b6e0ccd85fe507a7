"""Runs read from disk and put together: seeds of one setting into a cell, each cell beside its unpruned run.

`load` is where every report starts. It reads a run's summaries, not its samples: 3 ms a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meteor_bench.core.errors import RecordError
from meteor_bench.core.match import Measure
from meteor_bench.core.request import FAILED
from meteor_bench.data.own_pictures import AGREEMENT
from meteor_bench.records.provenance import fingerprint
from meteor_bench.records.reader import read_latency, read_run, read_scores
from meteor_bench.records.run_folder import find_complete, find_runs
from meteor_bench.records.schema import LatencySample, RunRecord
from meteor_bench.records.score_cache import ScoreRecord
from meteor_bench.utils.progress import warn
from meteor_bench.utils.structuring import plain

__all__ = ["ADAPTATION", "Cell", "Columns", "Run", "load", "load_run", "what"]

# A record that says so, in a fact or in a note, ran a trained method without its training.
ADAPTATION = "training-free adaptation"


@dataclass(frozen=True)
class Run:
    """A run's folder; what tables need of it is read when it is first asked for.

    Attributes:
        path: the folder.
        record: its run.json.
    """

    path: Path
    record: RunRecord

    @cached_property
    def scores(self) -> ScoreRecord:
        """Scores of all samples.

        Raises:
            RecordError: the samples are missing or broken, or not those of the record.
        """
        scores = read_scores(self.path)
        for task in self.record.tasks:
            found = len(scores.tasks[task.task].score) if task.task in scores.tasks else 0
            if found != task.n:
                raise RecordError(f"{self.path}: run.json has {task.n} answers of {task.task}, its samples {found}")
        if unknown := scores.tasks.keys() - {t.task for t in self.record.tasks}:
            raise RecordError(f"{self.path}: samples of {', '.join(sorted(unknown))}, which run.json does not list")
        return scores

    @cached_property
    def latency(self) -> Sequence[LatencySample]:
        """Raw timings.

        Raises:
            RecordError: they are broken.
        """
        return read_latency(self.path)


class Columns(NamedTuple):
    """Samples of one benchmark, in the order of their documents.

    Attributes:
        doc_id: [n]
        media: [n] number of the image or video, across benchmarks.
        score: [n] 0 to 1, the mean over the seeds.
    """

    doc_id: NDArray[np.int64]
    media: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """The runs of one setting that differ only in their seed, and the unpruned run of the same questions.

    Attributes:
        runs: at least one, in the order of their seeds.
        unpruned: None for an unpruned cell, and where no such run was found.
        group: what it is put together with in tables: the group's place among groups, and its name.
    """

    runs: tuple[Run, ...]
    unpruned: Cell | None = None
    group: tuple[int, str] = (0, "")

    @property
    def record(self) -> RunRecord:
        """The record of the first seed; everything but scores, counts and times is the same for all."""
        return self.runs[0].record

    @property
    def pruned(self) -> bool:
        """Whether this is a method's cell, not the unpruned model's."""
        return self.record.config.method != "none"

    @property
    def name(self) -> str:
        """The label with its ratio: "fastv 0.76"."""
        return f"{self.label} {self.record.config.share}" if self.pruned else self.label

    @property
    def ratio(self) -> float:
        """The fraction that was asked to be removed, of what `match` says."""
        return self.record.config.ratio

    @property
    def match(self) -> Measure:
        """What the ratio is of."""
        return self.record.config.match

    @property
    def prefix(self) -> str:
        """What the group puts before the name in tables; numbers for programs leave it out."""
        return f"{self.group[1]}: " if self.group[1] else ""

    @cached_property
    def label(self) -> str:
        """The setting in words, `RunConfig.label`, and whether it is an adaptation."""
        name = self.record.config.label
        name = f"{name} ({ADAPTATION})" if self.adapted else name
        return self.prefix + name

    @property
    def what(self) -> str:
        """What its scores are; a folder of pictures without answers has no accuracy."""
        return what(task.metric for task in self.record.tasks)

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return [run.record.config.seed for run in self.runs]

    @cached_property
    def notes(self) -> list[str]:
        """Substitutions that the engine made on any sample."""
        notes = dict.fromkeys(note for run in self.runs for note in run.scores.notes)
        return [note for note in notes if not note.startswith(FAILED)]

    @cached_property
    def adapted(self) -> bool:
        """Whether the record says that a trained method ran without its training."""
        facts = (f"{key} {value}" for key, value in self.record.facts.items() if isinstance(value, str))
        return any(ADAPTATION in text for text in [*facts, *self.notes])

    @cached_property
    def scores(self) -> Mapping[str, Columns]:
        """Scores per benchmark, averaged over the seeds."""
        columns = {}
        for task in (t.task for t in self.record.tasks):
            parts = [run.scores.tasks[task] for run in self.runs]
            if any(part.doc_id != parts[0].doc_id for part in parts):
                raise RecordError(f"{self.runs[0].path} and its other seeds answered different documents of {task}")
            score = np.mean([part.score for part in parts], axis=0)
            columns[task] = Columns(np.array(parts[0].doc_id), np.array(parts[0].media), score)
        return columns

    def headline(self, task: str) -> NDArray[np.float64]:
        """[seeds] the headline metric of a benchmark, on a scale of 0 to 100."""
        return np.array([t.score for run in self.runs for t in run.record.tasks if t.task == task])


def what(metrics: Iterable[str]) -> str:
    """What the scores of benchmarks with these metrics are."""
    return "Agreement with the unpruned model" if AGREEMENT in metrics else "Accuracy"


def load(*folders: Path) -> list[Cell]:
    """The cells of runs' folders or of folders of runs, of all of them together.

    Unfinished runs are named on standard error and left out.

    Raises:
        RecordError: nothing is there, a file is broken, no run is finished, or runs that belong together answered
            different questions.
    """
    paths = {path.resolve(): path for folder in folders for path in find_runs(folder)}
    runs = [load_run(path) for path in paths.values()]
    unfinished = [run.path for run in runs if run.record.status != "complete"]
    if len(unfinished) == len(runs):
        raise RecordError(f"{unfinished[0]} is unfinished; give the same `run` command again and it resumes")
    for path in unfinished:
        warn(f"left out: {path} is unfinished")
    return cells(run for run in runs if run.record.status == "complete")


def load_run(folder: Path) -> Run:
    """A run's folder.

    Raises:
        RecordError: its run.json is missing or broken.
    """
    run = Run(folder, read_run(folder))
    for task in run.record.tasks:
        if not -1e-6 <= task.score <= 100 + 1e-6:
            raise RecordError(f"{folder}: {task.task} scores {task.score:g}, which is on no scale of 0 to 100")
    return run


def cells(runs: Iterable[Run]) -> list[Cell]:
    """Group runs that differ only in their seed; an unpruned run that is not among them is looked for beside them.

    Of a run that is there twice the later one counts.
    """
    newest = {run.record.fingerprint: run for run in sorted(runs, key=lambda run: run.record.started)}
    groups: dict[str, list[Run]] = {}
    for run in newest.values():
        groups.setdefault(_setting(run.record), []).append(run)
    result, unpruned = [], dict[str, Cell | None]()
    for group in groups.values():
        group.sort(key=lambda run: run.record.config.seed)
        same_questions(group)
        if (wanted := group[0].record.baseline) and wanted not in unpruned:
            unpruned[wanted] = _unpruned(group[0], wanted, newest)
        base = unpruned[wanted] if wanted else None
        if base:
            same_questions([group[0], base.runs[0]])
        result.append(Cell(tuple(group), base))
    return sorted(result, key=lambda cell: (cell.pruned, cell.ratio, cell.label))


def same_questions(runs: Sequence[Run]) -> None:
    """Refuse to compare what was not measured on the same documents.

    Raises:
        RecordError: naming two of the runs and the benchmarks they differ in.
    """
    first, *others = runs
    expected = {t.task: (t.n, t.data) for t in first.record.tasks}
    for other in others:
        found = {t.task: (t.n, t.data) for t in other.record.tasks}
        if found != expected:
            tasks = sorted(t for t in expected.keys() | found.keys() if expected.get(t) != found.get(t))
            raise RecordError(
                f"{first.path} and {other.path} answered different questions in {', '.join(tasks)}; "
                "run both on the same data and --limit, or report them apart"
            )


def _unpruned(run: Run, wanted: str, known: Mapping[str, Run]) -> Cell | None:
    if wanted in known:
        return Cell((known[wanted],))
    folder = find_complete(run.path.parent, wanted)
    return Cell((load_run(folder),)) if folder else None


def _setting(record: RunRecord) -> str:
    config: dict[str, Any] = plain(record.config)
    del config["seed"], config["out"], config["baseline"], config["batch_size"]
    return fingerprint({"config": config, "baseline": record.baseline, "code": record.environment.code})
