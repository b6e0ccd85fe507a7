"""Two runs on the same questions, question by question: what `meteor-bench compare A B` prints.

Differences are B minus A. Each benchmark has the paired difference with its interval (`report.statistics`), McNemar's
exact test where scores are 0 or 1 and a paired bootstrap of images elsewhere, and the test by image that Holm's
correction for the number of benchmarks is applied to (`report.paired`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meteor_bench.core.errors import RecordError
from meteor_bench.report.accuracy import SLACK, columns
from meteor_bench.report.paired import bootstrap, exchange, holm, mcnemar
from meteor_bench.report.runs import Cell, load, same_questions
from meteor_bench.report.sections import Section
from meteor_bench.report.statistics import FEW, Design
from meteor_bench.report.table import FEW_IMAGES, MISSING, Table, fixed, with_half

__all__ = ["Pair", "comparison", "described", "differences", "lay_out", "pair"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """What is compared.

    Attributes:
        a, b: a run each, or the seeds of one setting.
        a_name, b_name: "fastv 0.76", with the folder where those are equal.
    """

    a: Cell
    b: Cell
    a_name: str
    b_name: str

    @property
    def tasks(self) -> list[str]:
        """The benchmarks, in the order of the suite."""
        return [t.task for t in self.a.record.tasks]


def pair(a: Path, b: Path) -> Pair:
    """Read two runs.

    Raises:
        RecordError: a folder holds no run or several settings, both are the same run, or they answered different
            questions.
    """
    cells = [_only(folder) for folder in (a, b)]
    if cells[0].record.fingerprint == cells[1].record.fingerprint:
        raise RecordError(f"{a} and {b} are the same run; name another one to compare it with")
    same_questions([cell.runs[0] for cell in cells])
    for task in cells[0].scores:
        if not np.array_equal(cells[0].scores[task].doc_id, cells[1].scores[task].doc_id):
            raise RecordError(f"{a} and {b} answered different documents of {task}")
    names = [cell.name for cell in cells]
    if names[0] == names[1]:
        names = [f"{name} ({cell.runs[0].path.name})" for name, cell in zip(names, cells, strict=True)]
    return Pair(cells[0], cells[1], *names)


def _only(folder: Path) -> Cell:
    cells = load(folder)
    if len(cells) > 1:
        some = ", ".join(cell.name for cell in cells[:3])
        raise RecordError(f"{folder} holds {len(cells)} settings ({some} ...); name the folder of one run")
    return cells[0]


def differences(compared: Pair) -> Floats:
    """[samples] B - A in points, benchmark after benchmark."""
    a, b = compared.a.scores, compared.b.scores
    return 100 * np.concatenate([b[task].score - a[task].score for task in compared.tasks])


def comparison(compared: Pair) -> pd.DataFrame:
    """A row per benchmark and average.

    Columns: kind, name, n, images; a and b (headline scores of 0 to 100), difference (b - a) with its 95 % interval;
    gained and lost (questions that B, that A answered better); test ("McNemar" or "bootstrap") with its p; p_image (by
    exchanging whole images); holm (p_image corrected for the number of benchmarks); different (holm, for an average
    p_image, is below 0.05).
    """
    values = differences(compared)
    design = Design([compared.a.scores[task].media.tolist() for task in compared.tasks])
    stratum = np.repeat(np.arange(design.sizes.size), design.sizes)
    deviations = design.deviations(values)
    rows = []
    for kind, name, shares in columns(Section("", tuple(compared.tasks), (compared.a,), ("",))):
        weights = np.array([shares.get(task, 0.0) for task in compared.tasks])
        used = (weights != 0)[stratum]
        half = float(design.half_width(deviations, weights, span=100))
        a, b = (_headline(cell, compared.tasks, weights) for cell in (compared.a, compared.b))
        gained, lost = int((values[used] > SLACK).sum()), int((values[used] < -SLACK).sum())
        right_or_wrong = kind == "benchmark" and _is_binary(compared, name)
        p = mcnemar(gained, lost) if right_or_wrong else bootstrap(design, values, weights)
        # Whole numbers (answers gained and lost by an image) have an exact distribution; an average's do not.
        parts = np.where(used, values / 100, 0.0) if kind == "benchmark" else values * (weights / design.sizes)[stratum]
        bounds = {"difference_low": max(-100.0, b - a - half), "difference_high": min(100.0, b - a + half)}
        rows.append(
            {
                **{"kind": kind, "name": name, "n": int(used.sum()), "images": design.clusters(weights)},
                **{"a": a, "b": b, "difference": b - a},
                **{**bounds, "gained": gained, "lost": lost, "test": "McNemar" if right_or_wrong else "bootstrap"},
                **{"p": p, "p_image": exchange(design.cluster_totals(parts)), "holm": math.nan},
            }
        )
    frame = pd.DataFrame(rows)
    own = frame["kind"] == "benchmark"
    frame.loc[own, "holm"] = holm(frame.loc[own, "p_image"].tolist())
    return frame.assign(different=frame["holm"].fillna(frame["p_image"]) < 0.05)


def _headline(cell: Cell, tasks: Sequence[str], weights: Floats) -> float:
    return float(sum(share * cell.headline(task).mean() for task, share in zip(tasks, weights, strict=True)))


def _is_binary(compared: Pair, task: str) -> bool:
    scores = np.concatenate([compared.a.scores[task].score, compared.b.scores[task].score])
    return bool(np.isin(scores, (0.0, 1.0)).all())


def lay_out(compared: Pair, frame: pd.DataFrame) -> Table:
    """The comparison for people."""
    body: list[list[str]] = []
    starts, bold, previous = set(), set(), "benchmark"
    for i, r in enumerate(frame.to_dict("records")):
        if r["kind"] != previous:
            starts.add(i)
            previous = r["kind"]
        name = f"{r['name']} (mean)" if r["kind"] == "group" else r["name"]
        few = r["kind"] == "benchmark" and r["images"] < FEW
        change = with_half(r["difference"], r["difference_low"], r["difference_high"]) + FEW_IMAGES * few
        flips = [f"{r['gained']}", f"{r['lost']}"]
        mark = "" if r["test"] == "McNemar" else "*"
        tests = [_p(r["p"]) + mark, _p(r["p_image"]), _p(r["holm"])]
        body.append([name, fixed(r["a"]), fixed(r["b"]), change, *flips, *tests])
        bold |= {(i, 3)} if r["different"] else set()
    heads = ["", "A", "B", "B - A", "up", "down", "p", "p image", "Holm"]
    notes = [
        f"A: {_about(compared.a, compared.a_name)}. B: {_about(compared.b, compared.b_name)}.",
        f"{int(frame.loc[frame['name'] == 'average', 'n'].iloc[0])} questions. B - A in points with its 95 % interval, "
        "paired, clustered by image; up and down: questions that B, that A answered better.",
        "p: McNemar's exact test; * paired bootstrap of images, where scores are not 0 or 1. p image: by exchanging "
        "whole images, which does not take questions about one image for independent. Holm: p image, corrected for "
        f"{int((frame['kind'] == 'benchmark').sum())} benchmarks. Bold: below 0.05.",
    ]
    if ((frame["kind"] == "benchmark") & (frame["images"] < FEW)).any():
        notes.append(f"{FEW_IMAGES} fewer than {FEW} images: the interval may be too narrow, p image is not.")
    return Table(
        f"{compared.a_name} (A) and {compared.b_name} (B)", heads, body, frozenset(starts), notes, frozenset(bold)
    )


def _about(cell: Cell, name: str) -> str:
    seeds = f", {len(cell.runs)} seeds" if len(cell.runs) > 1 else ""
    return f"{name} on {cell.record.model}{seeds}"


def _p(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return "<.001" if value < 0.0005 else f"{value:.3f}".removeprefix("0")


def described(compared: Pair) -> Mapping[str, Any]:
    """Which runs were compared, for programs."""
    return {
        side: {
            "name": name,
            "model": cell.record.model,
            "folders": [run.path.name for run in cell.runs],
            "fingerprints": [run.record.fingerprint for run in cell.runs],
        }
        for side, cell, name in (("a", compared.a, compared.a_name), ("b", compared.b, compared.b_name))
    }
