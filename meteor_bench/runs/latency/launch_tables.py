"""What a pass to the first logits would launch on a GPU, as a table, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from meteor_bench.report.document import Document
from meteor_bench.report.table import Table
from meteor_bench.runs.latency.launches import CHOOSING, Launches
from meteor_bench.utils.structuring import plain

__all__ = ["document"]


def document(found: Sequence[Launches]) -> Document:
    """Kernels and waits: a line of CSV for each method, batch size and stage."""
    return Document(
        lambda: [_table(found)],
        lambda: {"launches": _numbers(found)},
        data=lambda: {"launches": [plain(row) for row in found]},
    )


def _numbers(found: Sequence[Launches]) -> pd.DataFrame:
    rows = [
        {"method": row.name, "batch": row.batch, "stage": stage or "none"}
        | {"kernels": row.kernels.get(stage, 0), "waits": row.waits.get(stage, 0)}
        for row in found
        for stage in sorted({*row.kernels, *row.waits})
    ]
    return pd.DataFrame(rows)


def _table(found: Sequence[Launches]) -> Table:
    """A row per contender and batch size."""
    heads = ["", "batch", "waits: choosing", "total", "kernels: choosing", "total"]
    rows, notes = [], []
    for row in found:
        if row.failure:
            notes.append(f"{row.name}: {row.failure}")
            continue
        each = [(counts.get(CHOOSING, 0), sum(counts.values())) for counts in (row.waits, row.kernels)]
        rows.append([row.name, str(row.batch), *(str(number) for pair in each for number in pair)])
        if row.mixed:
            notes.append(f"{row.name}, batch {row.batch}: {row.mixed} operations mix devices")
    notes.append(
        "Between the pixels and the first logits, on a pretended GPU, after one pass that is not counted. choosing: a "
        "method's decisions, what it reads for them, and their application. A sort counts as four kernels."
    )
    return Table("What a GPU would be sent", heads, rows, notes=notes)
