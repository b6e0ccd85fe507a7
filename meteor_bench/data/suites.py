"""Which benchmarks there are, in which suites, and where their files lie; read from ``tasks/suites.yaml``.

Packages of others add theirs through the entry-point group ``meteor_bench.benchmarks``, each row of which names a
package whose folder holds such a file and its tasks. Nothing of the package is imported for it. A file of questions
("photos.jsonl") names the benchmark that is made of it (`data.own_questions`).

Light: no lmms-eval, datasets or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import yaml

from meteor_bench.core.errors import DataError, PluginError, UnknownNameError
from meteor_bench.core.plugins import added
from meteor_bench.data import own_questions
from meteor_bench.data.shipped import tasks_dir
from meteor_bench.utils.structuring import PlainError, fit

__all__ = [
    "Benchmark",
    "benchmark",
    "benchmarks",
    "resolve",
    "suite_names",
    "suite_tasks",
    "task_names",
]

GROUP = "meteor_bench.benchmarks"  # of entry points
Group = Literal["knowledge", "general", "ocr", "video"]


@dataclass(frozen=True)
class Benchmark:
    """A row of the benchmark table.

    Attributes:
        group: the skill it belongs to.
        metric: key of lmms-eval's results that is its headline, "exact_match,none".
        scale: factor that brings the headline to 0-100.
        dataset, config, split: where its documents come from; a repository of the hub, or "pocket".
        n: documents in the split.
        mirrors: lmms-eval's task whose metric it has; "" for lmms-eval's own tasks.
        per_sample: metric of the single answers that intervals are made of; None for the headline's own. With "a|b",
            the first that a document has.
        extra: metrics of our own beside lmms-eval's; names of `lmms.scoring.EXTRA`.
        family: column of the documents, or of what the metric collects of them, whose values have scores of their own.
        also: what else the task reads, as "repository:config".
        videos: folder under the data root that holds its videos.
        archives: patterns of the files of its repository that hold them.
        files: patterns of those that are the videos themselves.
        unpack: folder under the data root into which archives are unpacked and files put by their paths.
        revision: branch of its repository; None for the main one.
        clip: name of a document's video in `videos`, with a column in braces; with "a|b", the first that is there.
        reported: papers that give numbers on it.
        note: what to know about its prompt or metric.
        task: its name, as lmms-eval knows it.
        tasks: the folder of the table that it stands in; for a benchmark that is not lmms-eval's own, ``tasks / task``
            holds its YAML and its documents.
    """

    group: Group
    metric: str
    scale: float
    dataset: str
    split: str
    n: int
    mirrors: str = ""
    config: str | None = None
    per_sample: str | None = None
    extra: tuple[str, ...] = ()
    family: str = "family"
    also: tuple[str, ...] = ()
    videos: str | None = None
    archives: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    unpack: str | None = None
    revision: str | None = None
    clip: str | None = None
    reported: str = ""
    note: str = ""
    task: str = ""
    tasks: Path = Path()

    @property
    def folder(self) -> Path:
        """Where its YAML and its documents lie, unless it is lmms-eval's own."""
        return self.tasks / self.task

    @property
    def stock(self) -> bool:
        """Whether it is lmms-eval's own task, with data from the hub."""
        return "/" in self.dataset

    @property
    def sample_metric(self) -> str:
        """Metric of the single answers, without the filter's name."""
        return self.per_sample or self.metric.partition(",")[0]


@dataclass(frozen=True)
class _Tables:
    benchmarks: Mapping[str, Benchmark]
    suites: Mapping[str, tuple[str, ...]]


@cache
def _tables() -> _Tables:
    """Ours first; somebody else's row cannot take the place of one of ours."""
    ours = read_tables(tasks_dir() / "suites.yaml")
    rows, named = dict(ours.benchmarks), dict(ours.suites)
    for point in sorted(added(GROUP), key=lambda point: point.name):
        theirs = read_tables(_folder_of(point.name, point.value) / "suites.yaml")
        rows |= {name: row for name, row in theirs.benchmarks.items() if name not in rows}
        named |= {name: tasks for name, tasks in theirs.suites.items() if name not in named}
    return _Tables(rows, named)


def _folder_of(name: str, package: str) -> Path:
    """The folder of somebody's package, which is found and not imported.

    Raises:
        PluginError: there is no such package.
    """
    try:
        found = find_spec(package) if package.isidentifier() else None
    except ValueError:
        found = None
    if found is None or not found.submodule_search_locations:
        raise PluginError(f"benchmarks '{name}' cannot be used: there is no package '{package}'; name its top folder")
    return Path(next(iter(found.submodule_search_locations)))


def read_tables(file: Path) -> _Tables:
    """Read and check a suites file.

    Raises:
        DataError: it cannot be read, a row has a wrong type, or a suite names an unknown benchmark.
    """
    try:
        tables: _Tables = fit(yaml.safe_load(file.read_text(encoding="utf-8")), _Tables)
    except (OSError, yaml.YAMLError, PlainError) as error:
        raise DataError(f"{file}: {' '.join(str(error).split())}") from None
    for suite, tasks in tables.suites.items():
        for task in tasks:
            if task not in tables.benchmarks:
                raise DataError(f"{file}: suite {suite}: {UnknownNameError('benchmark', task, tables.benchmarks)}")
    named = {name: replace(row, task=name, tasks=file.parent) for name, row in tables.benchmarks.items()}
    return _Tables(named, tables.suites)


def benchmarks() -> Mapping[str, Benchmark]:
    """All benchmarks by name, in the order of the file."""
    return _tables().benchmarks


# Made of files in this process, by the names of their tasks.
_own: dict[str, Benchmark] = {}


def benchmark(task: str) -> Benchmark:
    """The row of one benchmark.

    Args:
        task: its name, or a file of questions; afterwards its task's name will do, too.

    Raises:
        UnknownNameError: there is none of that name.
        DataError: the file holds no questions, or wrong ones.
    """
    if own_questions.is_file(task):
        (row,) = read_tables(own_questions.folder(task) / "suites.yaml").benchmarks.values()
        _own[row.task] = row
        return row
    if task in _own:
        return _own[task]
    rows = benchmarks()
    if task not in rows:
        raise UnknownNameError("task", task, rows)
    return rows[task]


def known(task: str) -> Benchmark | None:
    """The row of a benchmark by its task's name, somebody's own among them; None for a task that is in no table."""
    return _own.get(task) or benchmarks().get(task)


def task_names() -> list[str]:
    """Names of all benchmarks."""
    return list(benchmarks())


def suite_names() -> list[str]:
    """Names of all suites."""
    return list(_tables().suites)


def suite_tasks(suite: str) -> tuple[str, ...]:
    """Names of a suite's benchmarks.

    Raises:
        UnknownNameError: no such suite.
    """
    suites = _tables().suites
    if suite not in suites:
        raise UnknownNameError("suite", suite, suites)
    return suites[suite]


def resolve(suite: str, tasks: Iterable[str] = ()) -> tuple[Benchmark, ...]:
    """The rows of the named tasks, each once, or of the suite when none is named.

    Raises:
        UnknownNameError: there is none of that name.
        DataError: a file of questions is wrong, or two of them have one name.
    """
    rows = tuple(benchmark(task) for task in dict.fromkeys(tasks) or suite_tasks(suite))
    names = [row.task for row in dict.fromkeys(rows)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"two files of questions are called {twice} in tables; give one of them another name")
    return tuple(dict.fromkeys(rows))
