"""Cells as the page needs them: a setting each, with scores, tokens and times by name, and who is on which front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from meteor_bench.core.match import Measure, of_ratio
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.counts import tokens
from meteor_bench.report.sections import Section
from meteor_bench.report.times import latency

__all__ = ["COSTS", "Setting", "known_costs", "pareto", "settings"]

# What a score is weighed against: name on the page, (table, row of it).
COSTS: Mapping[str, tuple[str, str]] = {
    "tokens after the last prune": ("tokens", "final"),
    "tokens, mean over LLM layers": ("tokens", "layer mean"),
    "tokens in the KV cache": ("tokens", "kv mean"),
    "tokens into the LLM": ("tokens", "llm input"),
    "ms to the first token": ("ms", "ttft"),
    "ms end to end": ("ms", "end to end"),
    "GFLOPs to the first token": ("gflops", "to first token"),
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """A cell in plain data; numbers that were not measured are left out.

    Attributes:
        label: unique together with ``ratio``.
        match: what the ratio is of.
        scores: benchmark, group or average -> row of the accuracy table.
        tokens: row of the token table -> its mean.
        ms, gflops: row of the latency table -> p50, p90, iqr, n, speedup and its interval, best.
        spread: tokens -> least and most on any question.
        memory: peak, in MiB.
    """

    label: str
    method: str
    ratio: float
    model: str
    seeds: Sequence[int]
    exact: bool
    scores: Mapping[str, Row]
    tokens: Mapping[str, float]
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    ms: Mapping[str, Row] = field(default_factory=dict)
    gflops: Mapping[str, Row] = field(default_factory=dict)
    memory: float | None = None
    match: Measure = "tokens"

    @property
    def pruned(self) -> bool:
        """Whether this is a method's, not the unpruned model's."""
        return self.method != "none"

    @property
    def name(self) -> str:
        """With its ratio."""
        return f"{self.label} {100 * self.ratio:g} %{of_ratio(self.match)}" if self.pruned else self.label

    def cost(self, name: str) -> float | None:
        """A cost of `COSTS`, None where it was not measured."""
        table, row = COSTS[name]
        if table == "tokens":
            return self.tokens.get(row)
        times: Mapping[str, Row] = getattr(self, table)
        return times[row]["p50"] if row in times else None


def settings(section: Section) -> list[Setting]:
    """The cells of a section in plain data, in its order."""
    scores, counts, times = accuracy(section), tokens(section), latency(section)
    made = []
    for row, (cell, label) in enumerate(zip(section.cells, section.labels, strict=True)):
        timed = _rows(times, row)
        counted = {r["name"]: r for r in _rows(counts, row)}
        made.append(
            Setting(
                label=label,
                method=cell.record.config.method,
                ratio=cell.ratio,
                model=cell.record.model,
                seeds=cell.seeds,
                exact=cell.record.exact,
                scores={r["name"]: r for r in _rows(scores, row)},
                tokens={name: r["mean"] for name, r in counted.items()},
                spread={name: (r["min"], r["max"]) for name, r in counted.items() if "min" in r},
                ms={r["name"]: r for r in timed if r["unit"] == "ms"},
                gflops={r["name"]: r for r in timed if r["unit"] == "GFLOPs"},
                match=section.match,
                memory=next((r["p50"] for r in timed if r["unit"] == "MiB"), None),
            )
        )
    return made


def known_costs(settings: Sequence[Setting]) -> list[str]:
    """Those of `COSTS` that were measured for at least two settings."""
    return [name for name in COSTS if sum(s.cost(name) is not None for s in settings) > 1]


def pareto(points: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the (cost, score) that no other one beats.

    One beats another that costs at most as much and scores at least as much, and is better in one of the two.
    """
    best, front = -math.inf, set()
    by_cost = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    for i in by_cost:
        cost, score = points[i]
        if score > best:
            best = score
            front.add(i)
        elif score == best and any(points[j] == (cost, score) for j in front):
            front.add(i)  # an equal
    return front


def _rows(frame: pd.DataFrame, row: int) -> list[Row]:
    """A cell's rows, without what they do not have, six digits as everywhere."""
    if frame.empty:
        return []
    found = frame[frame["row"] == row].drop(columns="row").to_dict("records")
    return [
        {
            str(key): float(f"{value:.6g}") if isinstance(value, float) else value
            for key, value in one.items()
            if not (isinstance(value, float) and math.isnan(value))
        }
        for one in found
    ]
