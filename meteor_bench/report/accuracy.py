"""Scores, differences and their intervals of all cells of a section, as a pandas frame; nothing is rounded here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meteor_bench.core.errors import RecordError
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import Section
from meteor_bench.report.statistics import FEW, Design

__all__ = ["METEOR_AVERAGE", "METEOR_GROUPS", "Scoreboard", "accuracy", "few_images"]

# The groups whose means METEOR's ablation tables average.
METEOR_GROUPS = ("knowledge", "general", "ocr")
METEOR_AVERAGE = "the mean of the means of knowledge, general and ocr, as METEOR's paper averages"
# A question's score goes up or down when it moves by more than rounding.
SLACK = 1e-6

Floats = NDArray[np.float64]


class _Relative(NamedTuple):
    """Scores relative to the unpruned ones, and the half widths of their intervals."""

    value: Floats
    half: Floats


class Scoreboard:
    """All scores of a section as matrices, a row per cell, in points of 100.

    Attributes:
        section: whose it is.
        design: which samples share an image.
        scores, unpruned: [cells, samples]; unpruned is NaN where a cell is compared with nothing.
        headline, unpruned_headline: [cells, benchmarks] the headline metrics.
    """

    def __init__(self, section: Section) -> None:
        """Align the cells.

        Raises:
            RecordError: two cells answered different documents.
        """
        self.section = section
        first = section.cells[0].scores
        self.design = Design([first[task].media.tolist() for task in section.tasks])
        self.scores = np.array([self._row(cell) for cell in section.cells])
        known: dict[int, tuple[Floats, Floats]] = {}
        for cell in (c.unpruned for c in section.cells if c.unpruned):
            known.setdefault(id(cell), (self._row(cell), self._headline(cell)))
        nothing = np.full(self.scores.shape[1], math.nan), np.full(len(section.tasks), math.nan)
        rows = [known[id(c.unpruned)] if c.unpruned else nothing for c in section.cells]
        self.unpruned = np.array([row for row, _ in rows])
        self.headline = np.array([self._headline(cell) for cell in section.cells])
        self.unpruned_headline = np.array([headline for _, headline in rows])
        self._deviations = self.design.deviations(self.scores)
        self._unpruned_deviations = self.design.deviations(self.unpruned)

    def _row(self, cell: Cell) -> Floats:
        first, scores = self.section.cells[0], cell.scores
        for task in self.section.tasks:
            if not np.array_equal(scores[task].doc_id, first.scores[task].doc_id):
                raise RecordError(
                    f"{first.runs[0].path} and {cell.runs[0].path} answered different documents of {task}"
                )
        return 100 * np.concatenate([scores[task].score for task in self.section.tasks])

    def _headline(self, cell: Cell) -> Floats:
        return np.array([cell.headline(task).mean() for task in self.section.tasks])

    def column(self, weights: Floats) -> dict[str, Any]:
        """Columns of a weighted sum of benchmarks, one number per cell.

        Args:
            weights: [benchmarks] shares of 1.
        """
        design, mine, theirs = self.design, self._deviations, self._unpruned_deviations
        score, unpruned = self.headline @ weights, self.unpruned_headline @ weights
        half = design.half_width(mine, weights, span=100)
        difference = score - unpruned
        difference_half = design.half_width(mine - theirs, weights, span=100)
        relative, relative_half = self._relative(weights)
        used = (weights != 0)[np.repeat(np.arange(weights.size), design.sizes)]
        change = (self.scores - self.unpruned)[:, used]
        compared = ~np.isnan(unpruned)
        return {
            "images": design.clusters(weights),
            "score": score,
            "low": np.maximum(score - half, 0.0),
            "high": np.minimum(score + half, 100.0),
            "sd": self._sd(weights),
            "sampled": np.abs(design.means(self.scores) @ weights - score) < 0.005,
            "unpruned": unpruned,
            "difference": difference,
            "difference_low": np.maximum(difference - difference_half, -100.0),
            "difference_high": np.minimum(difference + difference_half, 100.0),
            "relative": relative,
            "relative_low": np.maximum(relative - relative_half, 0.0),
            "relative_high": relative + relative_half,
            "gained": np.where(compared, (change > SLACK).sum(1), math.nan),
            "lost": np.where(compared, (change < -SLACK).sum(1), math.nan),
            "best": self._best(score, weights),
        }

    def _relative(self, weights: Floats) -> _Relative:
        """Mean of score / unpruned score in per cent, and half its interval.

        A ratio's deviations are linearised: those of (score - ratio · unpruned) / unpruned.
        """
        pairs = self.design.pair_stratum
        value = np.full(len(self.headline), math.nan)
        half = value.copy()
        used = weights != 0
        for base in np.unique(self.unpruned_headline, axis=0):
            rows = (self.unpruned_headline == base).all(1)
            if not rows.any() or not (base[used] > 0).all():
                continue  # compared with nothing, or with a score of 0
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(used, self.headline[rows] / base, 0.0)
                spread = (self._deviations[rows] - ratio[:, pairs] * self._unpruned_deviations[rows]) / base[pairs]
                spread = np.where(used[pairs], spread, 0.0)
                span = np.where(used, 1e4 / base, 0.0)
            value[rows] = 100 * ratio @ weights
            half[rows] = self.design.half_width(100 * spread, weights, span=span)
        return _Relative(value, half)

    def _sd(self, weights: Floats) -> Floats:
        """Standard deviation over the seeds."""
        values = np.full(len(self.section.cells), math.nan)
        for row, cell in enumerate(self.section.cells):
            if len(cell.runs) > 1:
                parts = zip(self.section.tasks, weights, strict=True)
                values[row] = np.std(sum(share * cell.headline(task) for task, share in parts), ddof=1)
        return values

    def _best(self, score: Floats, weights: Floats) -> NDArray[np.bool_]:
        """Whether a cell is better than every other of its ratio, by more than the noise of each paired difference."""
        best = np.zeros(score.size, dtype=bool)
        blocks: dict[float, list[int]] = {}
        for row, cell in enumerate(self.section.cells):
            if cell.pruned:
                blocks.setdefault(cell.ratio, []).append(row)
        for rows in blocks.values():
            winner = max(rows, key=lambda row: score[row])
            others = [row for row in rows if row != winner]
            if others:
                deviations = self._deviations[winner] - self._deviations[others]
                half = self.design.half_width(deviations, weights, span=100)
                best[winner] = bool((score[winner] - score[others] > half).all())
        return best


def accuracy(section: Section) -> pd.DataFrame:
    """Scores of 0 to 100 per benchmark, group and overall, with the difference to the unpruned run.

    A row per cell and column of the table. Columns: row (number of the cell in the section), kind ("benchmark",
    "group", "average"), name, group, metric, native (the metric as lmms-eval gives it), n, images; score with its 95 %
    interval low..high (clustered by image) and the standard deviation sd over seeds; unpruned, difference and its
    paired interval; relative (mean of score / unpruned, in per cent) and its interval; gained and lost (questions
    whose score went up or down); best (better than every other cell of its ratio by more than the noise).

    An interval is that of the mean of the samples' scores, centred on the headline metric; where a benchmark's
    headline is no mean of scores (an F1), ``sampled`` is False.

    Raises:
        RecordError: samples are missing or broken, or of different documents.
    """
    board = Scoreboard(section)
    records = section.cells[0].record.tasks
    frames = []
    for kind, name, shares in columns(section):
        weights = np.array([shares.get(task, 0.0) for task in section.tasks])
        about: dict[str, Any] = {"row": range(len(section.cells)), "kind": kind, "name": name}
        about["n"] = sum(t.n for t in records if t.task in shares)
        if kind == "benchmark":
            task = next(t for t in records if t.task == name)
            about |= {"group": task.group, "metric": task.metric, "native": _native(section.cells, name)}
        elif kind == "group":
            about["group"] = name
        frames.append(pd.DataFrame(about | board.column(weights)))
    return pd.concat(frames).sort_values("row", kind="stable", ignore_index=True)


def few_images(section: Section) -> dict[str, int]:
    """Benchmarks on so few images or videos that their intervals may be too narrow, with how many those are."""
    images = {task: np.unique(section.cells[0].scores[task].media).size for task in section.tasks}
    return {task: count for task, count in images.items() if count < FEW}


def columns(section: Section) -> list[tuple[str, str, Mapping[str, float]]]:
    """(kind, name, benchmark -> share) of every column of an accuracy table."""
    groups: dict[str, list[str]] = {}
    for task in section.cells[0].record.tasks:
        groups.setdefault(task.group, []).append(task.task)
    means = {group: dict.fromkeys(tasks, 1 / len(tasks)) for group, tasks in groups.items()}
    named: list[tuple[str, str, Mapping[str, float]]] = [("benchmark", task, {task: 1.0}) for task in section.tasks]
    named += [("group", group, shares) for group, shares in means.items()]
    named.append(("average", "average", dict.fromkeys(section.tasks, 1 / len(section.tasks))))
    if all(group in means for group in METEOR_GROUPS):
        shares = {task: share / len(METEOR_GROUPS) for g in METEOR_GROUPS for task, share in means[g].items()}
        named.append(("average", "METEOR average", shares))
    return named


def _native(cells: Sequence[Cell], task: str) -> list[float]:
    """The headline on lmms-eval's own scale, the mean over the seeds."""
    values = []
    for cell in cells:
        found = [t for run in cell.runs for t in run.record.tasks if t.task == task]
        numbers = [t.metrics[t.metric] for t in found if t.metric in t.metrics]
        values.append(float(np.mean(numbers)) if len(numbers) == len(found) else math.nan)
    return values
