"""The baseline file: what is checked, how far it may move, and what it was when it was last accepted.

YAML that people read and diff. They may edit `config` and `tolerances`; the rest is written by ``--update``. The last
key, `complete`, tells a whole file from a cut one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from meteor_bench.config import run_config as of_run
from meteor_bench.config.run_config import RunConfig, Setting
from meteor_bench.core.errors import RecordError
from meteor_bench.utils.atomic_io import write_whole
from meteor_bench.utils.safe_files import UnsafeFile, read_text
from meteor_bench.utils.safe_yaml import data as yaml_data
from meteor_bench.utils.structuring import PlainError, fit, plain

__all__ = ["Baseline", "CheckConfig", "Measured", "Ratios", "Tolerances", "read", "unfold", "write"]

FORMAT = "meteor-bench-check/1"
_HEAD = """\
# What a small subset gave when it was last accepted; `meteor-bench check --baseline THIS` compares with it.
# Edit `config` and `tolerances` by hand; `--update` writes everything below them.
# right: a 1 for a right answer, a 0 for a wrong one, in the order of the documents (partial credit: numbers).
# loss: of the unpruned model's answers, mean, nats. tokens: said once where all questions agree. flops: sums.
# latency: time relative to the unpruned model's time to the first token, measured in the same process.
"""


@dataclass(frozen=True)
class CheckConfig:
    """What is run: the unpruned model, then each of ``methods``; the other fields are those of `RunConfig`."""

    methods: tuple[Setting, ...]
    model: of_run.Model = "pocket"
    source: of_run.Source = None
    suite: of_run.Suite = "ci"
    tasks: of_run.Tasks = ()
    limit: of_run.Positive = 12
    batch_size: of_run.BatchSize = 64
    device: of_run.Device = "cpu"
    dtype: of_run.Dtype = "float32"
    seed: of_run.Seed = 0

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All cells, the unpruned one first."""
        return (Setting("none"), *self.methods)

    def run(self, setting: Setting) -> RunConfig:
        """One cell as a run."""
        shared = {name: value for name, value in vars(self).items() if name != "methods"}
        return RunConfig(**shared, **vars(setting), baseline=False)


@dataclass(frozen=True)
class Tolerances:
    """How far each metric may move before it is a regression.

    Attributes:
        lost: points of 100 that may be lost by questions answered worse than before; those answered better do not
            make up for them.
        loss: share by which a benchmark's mean loss may change, either way (at least `loss_floor` nats).
        loss_floor: change of a mean loss, nats, that is no news.
        tokens: difference of any count of any question.
        adaptive_tokens: the same for a method that meets its budget on average, whose counts depend on rounding.
        adaptive_mean: difference of such a method's mean counts.
        flops: share by which FLOPs may change, either way.
        adaptive_flops: the same for a method that meets its budget on average.
        selection: factor by which selection time may grow.
        selection_floor: growth of selection time, as a share of the unpruned model's time, that is no news.
        ttft: factor by which the time to the first token may grow.
    """

    lost: float = 5.0
    loss: float = 0.05
    loss_floor: float = 0.02
    tokens: float = 0.0
    adaptive_tokens: float = 2.0
    adaptive_mean: float = 0.25
    flops: float = 0.0
    adaptive_flops: float = 0.01
    selection: float = 1.5
    selection_floor: float = 0.01
    ttft: float = 1.35


@dataclass(frozen=True)
class Ratios:
    """Times over the unpruned model's time to the first token, measured in the same process.

    Attributes:
        selection: everything that the method adds: reading attention, deciding, gathering and merging.
        ttft: encoders, fusion, selection and prefill.
    """

    selection: float
    ttft: float


@dataclass(frozen=True)
class Measured:
    """What one cell gave.

    Attributes:
        checkpoint: the model variant and a digest of its weights.
        exact: whether the method promises its budget on every question.
        right: benchmark -> scores by document: digits, or numbers where one is neither 0 nor 1.
        loss: benchmark -> mean loss, nats, of what the unpruned model answers to its first questions.
        tokens: count -> a number, or benchmark -> a number or one for each document.
        flops: stage -> sum over the questions, each answered alone; "prune": on the first question.
        latency: what the method takes.
    """

    checkpoint: str
    exact: bool
    right: Mapping[str, str | tuple[float, ...]]
    loss: Mapping[str, float]
    tokens: Mapping[str, float | Mapping[str, float | tuple[float, ...]]]
    flops: Mapping[str, int]
    latency: Ratios

    def scores(self) -> dict[str, list[float]]:
        """Benchmark -> scores of 0 to 1, by document."""
        return {task: [float(value) for value in values] for task, values in self.right.items()}


@dataclass(frozen=True)
class Baseline:
    """The file's content.

    Attributes:
        format: `FORMAT`.
        cells: by `Setting.label`, in the order of `CheckConfig.settings`.
        data: benchmark -> digest of the documents asked.
        made: versions and machine, for people.
    """

    format: str
    config: CheckConfig
    tolerances: Tolerances
    cells: Mapping[str, Measured]
    data: Mapping[str, str]
    made: Mapping[str, str]
    complete: bool


def unfold(value: float | Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, list[float]]:
    """A count as the file holds it, for every document: benchmark -> counts."""
    by_task = value if isinstance(value, Mapping) else dict.fromkeys(sizes, value)
    return {task: list(v) if isinstance(v, Sequence) else [v] * sizes[task] for task, v in by_task.items()}


def read(file: Path) -> Baseline:
    """A baseline file.

    Raises:
        RecordError: it is missing, foreign, cut, of another version, or its parts do not fit together.
    """
    try:
        data = yaml_data(read_text(file))
    except OSError as error:
        raise RecordError(f"cannot read the baseline {file}: {error.strerror}; `check --update` makes one") from None
    except UnsafeFile as error:
        raise RecordError(f"{file} is cut or no baseline: {' '.join(str(error).split())}") from None
    found = data.get("format") if isinstance(data, Mapping) else None
    if not isinstance(found, str) or not found.startswith("meteor-bench-check/"):
        raise RecordError(f"{file} is no baseline of `meteor-bench check`: it does not begin with 'format: {FORMAT}'")
    if found != FORMAT:
        raise RecordError(f"{file} has format {found}; this version reads {FORMAT}; make it again with --update")
    if "complete" not in data:
        raise RecordError(f"{file} is cut: its last line, 'complete: true', is missing")
    try:
        baseline: Baseline = fit(data, Baseline)
    except PlainError as error:
        raise RecordError(f"{file}: {error}") from None
    _consistent(file, baseline)
    return baseline


def _consistent(file: Path, baseline: Baseline) -> None:
    """Every cell of the config is there, each with the same documents."""
    labels = [setting.label for setting in baseline.config.settings]
    if len(set(labels)) < len(labels):
        raise RecordError(f"{file}: config.methods holds the same method twice")
    _same(file, "config.methods and cells", labels, baseline.cells)
    sizes = {task: len(values) for task, values in baseline.cells["unpruned"].right.items()}
    _same(file, "cells.unpruned.right and data", sizes, baseline.data)
    for label, cell in baseline.cells.items():
        _same(file, f"cells.{label}.loss and data", cell.loss, baseline.data)
        if {task: len(values) for task, values in cell.right.items()} != sizes:
            raise RecordError(f"{file}: cells.{label}.right holds other numbers of documents than unpruned")
        for values in (v for v in cell.right.values() if isinstance(v, str)):
            if set(values) - set("01"):
                raise RecordError(f"{file}: cells.{label}.right holds '{values}'; expected 0 and 1")
        for name, value in cell.tokens.items():
            counts = unfold(value, sizes) if not isinstance(value, Mapping) or set(value) == set(sizes) else {}
            if {task: len(v) for task, v in counts.items()} != sizes:
                raise RecordError(f"{file}: cells.{label}.tokens.{name} does not hold a number for each document")


def _same(file: Path, what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    different = sorted(set(expected) ^ set(found))
    if different:
        raise RecordError(f"{file}: {what} do not agree on {', '.join(different)}; run the check with --update")


class _Dumper(yaml.SafeDumper):
    """One line for a list or table of plain values."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never: a person reads this."""
        return True


def write(file: Path, baseline: Baseline) -> None:
    """Replace a baseline file, whole or not at all.

    Raises:
        RecordError: it cannot be written.
    """
    content = plain(baseline)
    content["config"]["methods"] = [_named(setting) for setting in baseline.config.methods]
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=118)
    write_whole(file, (_HEAD + text).encode())


def _named(setting: Setting) -> dict[str, Any]:
    """Only what is not as by default."""
    default = plain(Setting(setting.method))
    return {name: value for name, value in plain(setting).items() if name == "method" or value != default[name]}
