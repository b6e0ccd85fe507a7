"""Cells into pandas frames, one row per number with everything that belongs to it; nothing is rounded here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from meteor_bench.records import Spread, TokenRecord
from meteor_bench.report.cells import Cell
from meteor_bench.report.statistics import Estimate, Stratum, mean_of_means

__all__ = ["METEOR_GROUPS", "accuracy", "flat", "latency", "tokens"]

# The groups whose means METEOR's ablation tables average.
METEOR_GROUPS = ("knowledge", "general", "ocr")

_TOKEN_COLUMNS = ("fused", "llm_input", "final", "layer_mean", "kv_mean", "text", "answer", "reference", "target")


def accuracy(cells: Sequence[Cell]) -> pd.DataFrame:
    """Scores of 0 to 100 per benchmark, group and overall, with the difference to the unpruned run.

    Columns: model, method, ratio, seeds; kind ("benchmark", "group", "average"), name, group, metric, n; score with
    its 95 % interval low..high (clustered by image) and the standard deviation sd over seeds; unpruned, difference
    and its paired 95 % interval; gained and lost (questions whose score went up or down).

    An interval is that of the mean of the samples' scores, centred on the headline metric; where a benchmark's
    headline is no mean of scores (an F1), `sampled` is False.
    """
    rows = []
    for cell in cells:
        groups: dict[str, list[str]] = {}
        for task in cell.record.tasks:
            groups.setdefault(task.group, []).append(task.task)
            about = {"kind": "benchmark", "name": task.task, "group": task.group, "metric": task.metric, "n": task.n}
            rows.append(_about(cell) | about | _scores(cell, {task.task: 1.0}))
        for group, tasks in groups.items():
            about = {"kind": "group", "name": group, "group": group, "n": _n(cell, tasks)}
            rows.append(_about(cell) | about | _scores(cell, dict.fromkeys(tasks, 1 / len(tasks))))
        everything = [t for tasks in groups.values() for t in tasks]
        about = {"kind": "average", "name": "average", "n": _n(cell, everything)}
        rows.append(_about(cell) | about | _scores(cell, dict.fromkeys(everything, 1 / len(everything))))
        if all(group in groups for group in METEOR_GROUPS):
            shares = {t: 1 / len(groups[g]) / len(METEOR_GROUPS) for g in METEOR_GROUPS for t in groups[g]}
            about = {"kind": "average", "name": "METEOR average", "n": _n(cell, list(shares))}
            rows.append(_about(cell) | about | _scores(cell, shares))
    return pd.DataFrame(rows)


def tokens(cells: Sequence[Cell]) -> pd.DataFrame:
    """Visual tokens per sample, counted from tensors.

    Columns: model, method, ratio, seeds; name (a column of the token record; encoders as "encoder <name>"); mean,
    min, max, sd over the samples; unpruned (its mean); and in the rows "requested ratio", "realised ratio", "missed"
    the run's value in mean.
    """
    rows = []
    for cell in cells:
        records = [run.record.tokens for run in cell.runs if run.record.tokens]
        if not records:
            continue
        before = cell.unpruned.record.tokens if cell.unpruned else None
        for name, pick in _token_rows(list(records[0].towers)):
            spread = _pooled([s for record in records if (s := pick(record))])
            other = pick(before) if before else None
            rows.append(_about(cell) | {"name": name, **spread, "unpruned": other.mean if other else math.nan})
        for name in ("requested_ratio", "realised_ratio", "missed"):
            values = [float(getattr(record, name)) for record in records]
            value = sum(values) if name == "missed" else float(np.mean(values))
            rows.append(_about(cell) | {"name": name.replace("_", " "), "mean": value})
    return pd.DataFrame(rows)


def latency(cells: Sequence[Cell]) -> pd.DataFrame:
    """Times and FLOPs per request at batch 1, nothing reused, beside the unpruned model timed in the same process.

    Columns: model, method, ratio, seeds; name (a stage; encoders as "encode <name>"), unit ("ms" or "GFLOPs"); p50,
    p90, p99, iqr (share of the median) and n of the run; unpruned_p50, unpruned_p90; speedup (ratio of the medians).
    """
    rows = []
    for cell in cells:
        ours = _raw(cell, "run")
        theirs = _raw(cell, "unpruned")
        for (name, unit), values in ours.items():
            p25, p50, p75, p90, p99 = (float(q) for q in np.percentile(values, [25, 50, 75, 90, 99]))
            row: dict[str, Any] = {"name": name, "unit": unit, "p50": p50, "p90": p90, "p99": p99, "n": len(values)}
            row["iqr"] = (p75 - p25) / p50 if p50 else math.nan
            if other := theirs.get((name, unit)):
                row["unpruned_p50"], row["unpruned_p90"] = (float(q) for q in np.percentile(other, [50, 90]))
                row["speedup"] = row["unpruned_p50"] / p50 if p50 and row["unpruned_p50"] else math.nan
            rows.append(_about(cell) | row)
    return pd.DataFrame(rows)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a nested table with their dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, float(value)


def _about(cell: Cell) -> dict[str, Any]:
    return {
        "model": cell.record.model,
        "method": cell.label,
        "ratio": cell.record.config.ratio,
        "seeds": ",".join(map(str, cell.seeds)),
    }


def _n(cell: Cell, tasks: Sequence[str]) -> int:
    return sum(t.n for t in cell.record.tasks if t.task in tasks)


def _scores(cell: Cell, shares: Mapping[str, float]) -> dict[str, Any]:
    """Score columns of a weighted sum of benchmarks."""
    per_seed = sum(share * cell.headline(task) for task, share in shares.items())
    score = float(np.mean(per_seed))
    own = _estimate(cell, None, shares)
    row = {
        "score": score,
        "low": max(0.0, score - (own.value - own.low)),
        "high": min(100.0, score + (own.high - own.value)),
        "sd": float(np.std(per_seed, ddof=1)) if len(cell.runs) > 1 else math.nan,
        "sampled": abs(own.value - score) < 0.005,
    }
    if cell.unpruned is None:
        return row
    unpruned = float(sum(share * cell.unpruned.headline(task).mean() for task, share in shares.items()))
    paired = _estimate(cell, cell.unpruned, shares)
    changes = [
        value - cell.unpruned.scores[task].score[doc]
        for task in shares
        for doc, value in cell.scores[task].score.items()
    ]
    return row | {
        "unpruned": unpruned,
        "difference": score - unpruned,
        "difference_low": score - unpruned - (paired.value - paired.low),
        "difference_high": score - unpruned + (paired.high - paired.value),
        "gained": sum(c > 1e-9 for c in changes),
        "lost": sum(c < -1e-9 for c in changes),
    }


def _estimate(cell: Cell, other: Cell | None, shares: Mapping[str, float]) -> Estimate:
    """Interval, on a scale of 0 to 100, of the samples' scores or of their differences to ``other``."""
    strata = []
    for task in shares:
        score, media = cell.scores[task]
        base = other.scores[task].score if other else dict.fromkeys(score, 0.0)
        strata.append(Stratum([100 * (score[d] - base[d]) for d in score], [media[d] for d in score]))
    return mean_of_means(strata, weights=list(shares.values()))


Pick = Callable[[TokenRecord], Spread | None]


def _token_rows(towers: Sequence[str]) -> list[tuple[str, Pick]]:
    rows: list[tuple[str, Pick]] = [(f"encoder {tower}", partial(_tower, tower)) for tower in towers]
    return rows + [(column.replace("_", " "), attrgetter(column)) for column in _TOKEN_COLUMNS]


def _tower(name: str, record: TokenRecord) -> Spread | None:
    return record.towers.get(name)


def _pooled(spreads: Sequence[Spread]) -> dict[str, float]:
    """One spread over runs of equal size."""
    means = np.array([s.mean for s in spreads])
    return {
        "mean": float(means.mean()),
        "min": min(s.min for s in spreads),
        "max": max(s.max for s in spreads),
        "sd": float(np.sqrt(np.mean([s.sd**2 for s in spreads]) + means.var())),
    }


def _raw(cell: Cell, session: str) -> dict[tuple[str, str], list[float]]:
    """(stage, unit) -> values over requests and seeds."""
    raw: dict[tuple[str, str], list[float]] = {}
    for run in cell.runs:
        for sample in run.latency:
            if sample.session == session:
                for key, value in _stages(sample.times):
                    raw.setdefault(key, []).append(value)
    return raw


def _stages(times: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """("encode clip", "ms"), 3.1 and the like; sums over the encoders and over the stages before decoding are added."""
    encode: dict[str, float] = {}
    before_decoding = 0.0
    for name, value in flat(times):
        stage, _, tower = name.removeprefix("flops.").partition(".")
        is_flops = name.startswith("flops.")
        unit, value = ("GFLOPs", value / 1e9) if is_flops else ("ms", value)
        label = stage.removesuffix("_ms").replace("_ms_", " ").replace("_", " ")
        yield (f"{label} {tower}".strip(), unit), value
        if tower:
            encode[unit] = encode.get(unit, 0.0) + value
        if is_flops and stage != "decode":
            before_decoding += value
    for unit, total in encode.items():
        yield ("encode", unit), total
    if "flops" in times:
        yield ("to first token", "GFLOPs"), before_decoding
