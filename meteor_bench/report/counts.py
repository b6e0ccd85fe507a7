"""Visual tokens of all cells of a section at every stage, as a pandas frame; nothing is rounded here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from meteor_bench.core.match import MEASURES
from meteor_bench.records.schema import Spread, TokenRecord
from meteor_bench.report.runs import Cell
from meteor_bench.report.sections import Section

__all__ = ["COUNTS", "tokens"]

# Counts of the token record, in the order in which the tokens pass.
COUNTS = ("fused", "llm_input", "final", "layer_mean", "kv_mean", "text", "answer", "reference", "target")


def tokens(section: Section) -> pd.DataFrame:
    """Visual tokens per sample, counted from tensors.

    Columns: row (number of the cell in the section); name (a count of the token record; encoders as "encoder <name>");
    mean, min, max, sd over the samples; unpruned (its mean). The row "requested ratio" has the run's value in mean;
    "realised ratio" has 1 - sum of final / sum of reference in mean and the samples' own ratios in min, max and sd;
    "missed" has the number of samples off their budget in mean; "removed tokens", "removed layer-mean", "removed kv"
    and "removed flops" have in mean the fraction of each measure that was removed, where the records tell it.
    """
    rows: list[dict[str, Any]] = []
    for row, cell in enumerate(section.cells):
        records = [run.record.tokens for run in cell.runs if run.record.tokens]
        if not records:
            continue
        before = cell.unpruned.record.tokens if cell.unpruned else None
        for name in (*(f"encoder {tower}" for tower in records[0].towers), *COUNTS):
            spread = _pooled([s for record in records if (s := _pick(record, name))])
            other = _pick(before, name) if before else None
            shown = name.replace("_", " ")
            rows.append({"row": row, "name": shown, **spread, "unpruned": other.mean if other else math.nan})
        rows.append({"row": row, "name": "requested ratio", "mean": records[0].requested_ratio})
        rows.append({"row": row, "name": "realised ratio", **_realised(cell, records)})
        for measure in MEASURES:
            shares = [record.realised[measure] for record in records if measure in record.realised]
            if len(shares) == len(records):
                rows.append({"row": row, "name": f"removed {measure}", "mean": float(np.mean(shares))})
        rows.append({"row": row, "name": "missed", "mean": float(sum(record.missed for record in records))})
    return pd.DataFrame(rows)


def _pick(record: TokenRecord, name: str) -> Spread | None:
    spread: Spread | None
    if name.startswith("encoder "):
        spread = record.towers.get(name.removeprefix("encoder "))
    else:
        spread = getattr(record, name)
    return spread


def _pooled(spreads: Sequence[Spread]) -> dict[str, float]:
    """One spread over runs of equal size."""
    means = np.array([s.mean for s in spreads])
    return {
        "mean": float(means.mean()),
        "min": min(s.min for s in spreads),
        "max": max(s.max for s in spreads),
        "sd": float(np.sqrt(np.mean([s.sd**2 for s in spreads]) + means.var())),
    }


def _realised(cell: Cell, records: Sequence[TokenRecord]) -> dict[str, float]:
    removed = [run.scores.removed for run in cell.runs if run.scores.removed]
    spread = _pooled(removed) if removed else {}
    return {**spread, "mean": float(np.mean([record.realised_ratio for record in records]))}
