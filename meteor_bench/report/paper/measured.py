"""What a run gave for the columns of a paper's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from meteor_bench.core.match import to_first_token
from meteor_bench.data import suites
from meteor_bench.report.accuracy import METEOR_GROUPS, accuracy
from meteor_bench.report.paper.numbers import Column
from meteor_bench.report.paper.run_index import Asked, RunIndex, task_of
from meteor_bench.report.runs import Cell
from meteor_bench.report.times import latency

__all__ = ["Numbers", "Value"]

# Stages of a column -> rows of the latency frame.
_STAGES = {"decode": "decode per token", "end": "end to end"}


@dataclass(frozen=True)
class Value:
    """A measured number with its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Numbers:
    """What a cell gives for the columns of a table.

    Attributes:
        index: that the runs are from.
        cell: the runs.
        columns: of the table.
        benchmarks: of the table.
        reported_scale: bring numbers to the scale of the paper, and leave out those that would need a benchmark that
            was not asked; else scores are of 0 to 100 and times in ms.
    """

    index: RunIndex
    cell: Cell
    columns: Sequence[Column]
    benchmarks: Asked
    reported_scale: bool
    _known: dict[str, Value | None] = field(default_factory=dict, init=False)

    @property
    def asked(self) -> Sequence[str]:
        """Names of the benchmarks."""
        return self.benchmarks.tasks

    def get(self, column: Column) -> Value | None:
        """A column's number, None where the runs do not tell."""
        if column.name not in self._known:
            self._known[column.name] = self._of_kind(column)
        return self._known[column.name]

    def _of_kind(self, column: Column) -> Value | None:
        if column.is_ == "benchmark":
            return self._benchmark(column)
        number: float | None = {
            "tokens": self._tokens,
            "tflops": lambda _: _flops(self.cell) / 1e12,
            "group": self._group,
            "average": self._average,
            "relative": self._relative,
            "share": self._share,
            "time": self._time,
            "change": self._change,
        }[column.is_](column)
        return None if number is None or np.isnan(number) else Value(float(number))

    def _tokens(self, _: Column) -> float | None:
        means = [run.record.tokens.final.mean for run in self.cell.runs if run.record.tokens]
        return float(np.mean(means)) if means else None

    def _benchmark(self, column: Column) -> Value | None:
        task = task_of(column, self.asked)
        if task is None:
            return None
        scale = column.times if self.reported_scale else 1.0
        if column.metric:
            return self._metrics(column, task)
        frame = self._accuracy
        row = frame[(frame["kind"] == "benchmark") & (frame["name"] == task)].iloc[0]
        bounds = [None if np.isnan(row[name]) else float(row[name]) * scale for name in ("low", "high")]
        return Value(float(row["score"]) * scale, *bounds)

    def _metrics(self, column: Column, task: str) -> Value | None:
        """The sum of some of lmms-eval's own metrics, the mean over the seeds."""
        found = [t.metrics for run in self.cell.runs for t in run.record.tasks if t.task == task]
        if any(name not in metrics for metrics in found for name in column.metric):
            return None
        value = float(np.mean([sum(metrics[name] for name in column.metric) for metrics in found])) * column.times
        return Value(value if self.reported_scale else value * column.to_points)

    def _group(self, column: Column) -> float | None:
        return _mean([self._score(task) for task in self.asked if suites.benchmark(task).group == column.group])

    def _score(self, task: str) -> float:
        return float(self.cell.headline(task).mean())

    def _average(self, column: Column) -> float | None:
        if column.over == "suite":
            known = self.benchmarks.whole or not self.reported_scale
            return _mean([self._score(task) for task in self.asked]) if known else None
        if column.over == "groups":
            named = [column for column in self._groups if column.group in METEOR_GROUPS]
            means = [self._group(group) for group in named]
            return _mean(means) if len(means) == len(METEOR_GROUPS) else None
        mean = self._own_mean()
        return mean * column.times if mean is not None and self.reported_scale else mean

    @property
    def _groups(self) -> list[Column]:
        """METEOR's groups, as far as they were asked."""
        asked = {suites.benchmark(task).group for task in self.asked}
        return [Column("group", group=group, name=group) for group in METEOR_GROUPS if group in asked]

    def _own_mean(self) -> float | None:
        """Mean, 0 to 100, of the table's own benchmarks; at the reported scale only if none is missing."""
        own = [column for column in self.columns if column.is_ == "benchmark" and column.tasks]
        values = [self.get(column) for column in own]
        if self.reported_scale and None in values:
            return None
        there = [(column, value.value) for column, value in zip(own, values, strict=True) if value is not None]
        return _mean([value * (column.to_points if self.reported_scale else 1.0) for column, value in there])

    def _relative(self, _: Column) -> float | None:
        mine, other = self._own_mean(), self._unpruned
        base = other._own_mean() if other else None
        return 100 * mine / base if mine is not None and base else None

    def _share(self, column: Column) -> float | None:
        if not self.cell.pruned:
            return None if self._latency.empty else 1.0
        ours, theirs = self._sums(column, "p50"), self._sums(column, "unpruned_p50")
        return ours / theirs if ours is not None and theirs else None

    def _time(self, column: Column) -> float | None:
        ms = self._sums(column, "p50")
        return ms * column.times if ms is not None and self.reported_scale else ms

    def _sums(self, column: Column, quantile: str) -> float | None:
        """Sum of the medians of a column's stages, ms."""
        if self._latency.empty:
            return None
        ms = self._latency[self._latency["unit"] == "ms"].set_index("name")[quantile]
        values = [ms.get(_STAGES.get(stage, stage), np.nan) for stage in column.stages]
        # The unpruned model does not prune.
        return float(np.nansum(values)) if not np.isnan(values).all() else None

    def _change(self, column: Column) -> float | None:
        other = self._unpruned
        if column.of == "tokens":
            ratios = [run.record.tokens.realised_ratio for run in self.cell.runs if run.record.tokens]
            return 100 * float(np.mean(ratios)) if ratios else None
        if other is None:
            return None
        if column.of == "score":
            return float(np.mean([other._score(task) - self._score(task) for task in self.asked]))
        if column.of == "flops":
            return 100 * (1 - _flops(self.cell) / _flops(other.cell))
        ours, theirs = (self._sums(Column("time", stages=("end",)), q) for q in ("p50", "unpruned_p50"))
        return 100 * (theirs / ours - 1) if ours and theirs else None

    @cached_property
    def _unpruned(self) -> Numbers | None:
        if not self.cell.pruned:
            return self
        if self.cell.unpruned is None:
            return None
        return Numbers(self.index, self.cell.unpruned, self.columns, self.benchmarks, self.reported_scale)

    @property
    def _accuracy(self) -> pd.DataFrame:
        return self.index.frame(self.cell, accuracy)

    @property
    def _latency(self) -> pd.DataFrame:
        return self.index.frame(self.cell, latency)


def _mean(values: Sequence[float | None]) -> float | None:
    return float(np.mean(values)) if values and None not in values else None  # type: ignore[arg-type]


def _flops(cell: Cell) -> float:
    """Mean over the questions, to the first token."""
    return float(np.mean([to_first_token(run.record.flops) for run in cell.runs]))
