"""Times, FLOPs and memory of all cells of a section, as a pandas frame; nothing is rounded here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meteor_bench.records.schema import LatencySample
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import Section

__all__ = ["flat", "latency", "median_interval"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_QUANTILES = (25, 50, 75, 90, 99)


def latency(section: Section) -> pd.DataFrame:
    """Times and FLOPs per request at batch 1, nothing reused, beside the unpruned model timed in the same process.

    Peak memory is that of the run that answered all questions.

    Columns: row (number of the cell in the section); name (a stage; encoders as "encode <name>"), unit ("ms",
    "GFLOPs" or "MiB"), source ("measured", or "inferred" from closed forms); p50 with its 95 % interval
    p50_low..p50_high, p90, p99, iqr (share of the median) and n of the run; unpruned_p50, unpruned_p90; speedup
    (median over the requests of unpruned / run) with its interval; best (ahead of every other cell of its ratio,
    intervals apart: by the speed-up, which has the machine's moods divided out, where there is one).
    """
    parts = []
    for row, cell in enumerate(section.cells):
        pairs = [(_stages(cell, "run"), _stages(cell, "unpruned")), (_memory(cell), _memory(cell.unpruned))]
        parts += [{"row": [row] * len(a.names), **_summary(a, b)} for a, b in pairs if a.names]
    if not parts:
        return pd.DataFrame()
    frame = pd.DataFrame({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
    return frame.assign(best=_best(frame, section.cells))


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Numbers of a nested table read from a file, with their dotted names."""
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        kind = type(value)
        if kind is float or kind is int:
            found.append((prefix + key, float(value)))
        elif isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}.")
    return found


def median_interval(ordered: Floats, level: float = 0.95) -> Floats:
    """[2, ...] the order statistics that hold the median whatever the distribution; NaN for fewer than six values.

    Args:
        ordered: [n, ...] values in rising order along the first axis.
    """
    n = len(ordered)
    tail, rank = 0.0, -1
    while (tail := tail + math.comb(n, rank + 1) / 2**n) <= (1 - level) / 2:
        rank += 1
    if rank < 0:
        return np.full((2, *ordered.shape[1:]), math.nan)
    return np.array([ordered[rank], ordered[n - 1 - rank]])


class _Stages(NamedTuple):
    """Raw values of a cell.

    Attributes:
        names: (stage, unit).
        keys: which request each row belongs to: equal in both sessions where the timings were taken in turn.
        values: [requests, stages]
    """

    names: list[tuple[str, str]]
    keys: list[str]
    values: Floats


def _summary(ours: _Stages, theirs: _Stages) -> dict[str, Any]:
    """Columns of the frame, a number per stage."""
    p25, p50, p75, p90, p99 = np.percentile(ours.values, _QUANTILES, axis=0)
    low, high = median_interval(np.sort(ours.values, axis=0))
    names, units = zip(*ours.names, strict=True)
    # What torch's counter saw of the pruning is as real as a time; the other counts are closed forms.
    source = ["inferred" if u == "GFLOPs" and n != "prune" else "measured" for n, u in ours.names]
    other = _beside(ours, theirs)
    ratios = np.divide(other, ours.values, out=np.full_like(other, math.nan), where=(ours.values > 0) & (other > 0))
    faster = np.full((3, len(names)), math.nan)
    whole = ~np.isnan(ratios).any(0)
    faster[0, whole] = np.median(ratios[:, whole], axis=0)
    faster[1:, whole] = median_interval(np.sort(ratios[:, whole], axis=0))
    before = np.percentile(other, (50, 90), axis=0)
    return {
        **{"name": names, "unit": units, "source": source, "p50": p50, "p50_low": low, "p50_high": high},
        **{"p90": p90, "p99": p99, "iqr": np.divide(p75 - p25, p50, out=np.full_like(p50, math.nan), where=p50 > 0)},
        **{"n": [len(ours.values)] * len(names), "unpruned_p50": before[0], "unpruned_p90": before[1]},
        **dict(zip(("speedup", "speedup_low", "speedup_high"), faster, strict=True)),
    }


def _beside(ours: _Stages, theirs: _Stages) -> Floats:
    """[requests, stages] the unpruned model's values of the same requests; NaN where it has none."""
    row = {key: i for i, key in enumerate(theirs.keys)}
    column = {name: i for i, name in enumerate(theirs.names)}
    values = np.full(ours.values.shape, math.nan)
    if all(key in row for key in ours.keys):
        for at, name in enumerate(ours.names):
            if name in column:
                values[:, at] = theirs.values[[row[key] for key in ours.keys], column[name]]
    return values


def _stages(cell: Cell, session: str) -> _Stages:
    """A row per request and seed; sums over the encoders and to the first token are added."""
    samples = [(run.record.config.seed, s) for run in cell.runs for s in run.latency if s.session == session]
    if not samples:
        return _Stages([], [], np.empty((0, 0)))
    tables = [dict(flat(s.times)) for _, s in samples]
    known = list(tables[0])
    if all(list(table) == known for table in tables):  # nearly always, and much the faster way
        values = np.array([list(table.values()) for table in tables])
    else:
        known = list(dict.fromkeys(name for table in tables for name in table))
        values = np.array([[table.get(name, math.nan) for name in known] for table in tables])
    columns = {}
    for at, name in enumerate(known):
        stage, unit, scale = _stage(name)
        columns[stage, unit] = values[:, at] * scale
    for unit in ("ms", "GFLOPs"):
        towers = [column for (stage, u), column in columns.items() if u == unit and stage.startswith("encode ")]
        if towers:
            columns["encode", unit] = np.sum(towers, axis=0)
    first = [at for at, name in enumerate(known) if name.startswith("flops.") and name != "flops.decode"]
    if first:
        columns["to first token", "GFLOPs"] = values[:, first].sum(1) * 1e-9
    return _Stages(list(columns), _keys(samples), np.array(list(columns.values())).T)


def _memory(cell: Cell | None) -> _Stages:
    """The most memory that each seed's run took while it answered."""
    peaks = {run.record.config.seed: run.record.peak_memory for run in cell.runs} if cell else {}
    if not peaks or None in peaks.values():
        return _Stages([], [], np.empty((0, 0)))
    mebibytes = np.array([[peak or 0] for peak in peaks.values()]) / 2**20
    return _Stages([("peak memory", "MiB")], [str(seed) for seed in peaks], mebibytes)


def _keys(samples: Sequence[tuple[int, LatencySample]]) -> list[str]:
    """Which of the other session's timings each one belongs to: same seed, same request, same repeat."""
    seen: dict[str, int] = {}
    keys = []
    for seed, sample in samples:
        key = f"{seed}/{sample.request}"
        seen[key] = seen.get(key, 0) + 1
        keys.append(f"{key}/{seen[key]}")
    return keys


class _Stage(NamedTuple):
    """A stage of a run, its unit, and what a value in that unit is multiplied by."""

    name: str
    unit: str
    scale: float


def _stage(name: str) -> _Stage:
    """Of "flops.encode.clip": ("encode clip", "GFLOPs", 1e-9): stage, unit and what brings the value to it."""
    unit, scale = "ms", 1.0
    if name.startswith("flops."):
        name, unit, scale = name.removeprefix("flops."), "GFLOPs", 1e-9
    stage, _, tower = name.partition(".")
    label = stage.removesuffix("_ms").replace("_ms_", " ").replace("_", " ")
    return _Stage(f"{label} {tower}".strip(), unit, scale)


def _best(frame: pd.DataFrame, cells: Sequence[Cell]) -> Bools:
    """Whether a row is ahead of every other of its stage and ratio by more than both intervals."""
    best = np.zeros(len(frame), dtype=bool)
    blocks: dict[tuple[str, str, float], list[int]] = {}
    for at, (row, name, unit) in enumerate(zip(frame["row"], frame["name"], frame["unit"], strict=True)):
        if cells[row].pruned:
            blocks.setdefault((name, unit, cells[row].ratio), []).append(at)
    columns = ("p50_low", "p50_high", "speedup_low", "speedup_high")
    p50_low, p50_high, slow, fast = (frame[column].to_numpy() for column in columns)
    for members in blocks.values():
        rows = np.array(members)
        paired = not np.isnan(slow[rows]).any()
        low, high = (-fast[rows], -slow[rows]) if paired else (p50_low[rows], p50_high[rows])
        if len(rows) > 1 and not np.isnan(high).any():
            winner = int(high.argmin())
            best[rows[winner]] = bool((np.delete(low, winner) > high[winner]).all())
    return best
