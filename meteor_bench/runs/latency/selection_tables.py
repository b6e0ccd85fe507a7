"""What choosing costs, as a table, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import pandas as pd

from meteor_bench.report.document import Document
from meteor_bench.report.table import Table, fixed
from meteor_bench.runs.latency.records import LIMIT, Selection
from meteor_bench.utils.structuring import plain

__all__ = ["document"]


def document(found: Sequence[Selection]) -> Document:
    """What choosing costs: a line of CSV for each method, batch size and round; JSON has everything."""
    return Document(lambda: [_table(found)], lambda: {"selection": _numbers(found)}, (), lambda: _data(found))


def _numbers(found: Sequence[Selection]) -> pd.DataFrame:
    rows = [
        {"method": row.name, "tokens": one.tokens, "batch": one.batch, "ratio": one.ratio, "round": i}
        | {"decide_ms": row.decide_ms[i], "decide_cpu_ms": row.decide_cpu_ms[i], "around_ms": row.around_ms[i]}
        | {"vit_ms": one.vit_ms[i], "vit_cpu_ms": one.vit_cpu_ms[i]}
        for one in found
        for row in one.rows
        for i in range(len(one.vit_ms))
    ]
    return pd.DataFrame(rows)


def _data(found: Sequence[Selection]) -> dict[str, Any]:
    return {"selection": [plain(one) | {"shares": {row.name: one.share(row) for row in one.rows}} for one in found]}


def _table(found: Sequence[Selection]) -> Table:
    """A row per method, for each batch size its milliseconds and their share of the encoder's."""
    first = found[0]
    heads = ["", *(f"{what}, b{one.batch}" for one in found for what in ("ms", "of ViT-L", "around"))]
    rows = []
    for at, row in enumerate(first.rows):
        cells = [row.name + (" (2 encoders)" if row.encoders > 1 else "")]
        for one in found:
            own = one.rows[at]
            mark = "!" if one.share(own) > LIMIT else ""
            cells += [fixed(median(own.decide_cpu_ms)), f"{one.share(own):.2%}{mark}", fixed(median(own.around_ms))]
        rows.append(cells)
    env = first.environment
    encoder = ", ".join(f"batch {one.batch}: {median(one.vit_cpu_ms) / 1e3:.2f} s" for one in found)
    wall = ", ".join(f"{median(one.vit_ms) / 1e3:.2f} s" for one in found)
    machine = env.processor if env.device == "cpu" else env.device
    kind = "Processor time (of the wall time other work takes its share): " if env.device == "cpu" else "Wall time: "
    notes = [
        f"{kind}medians of {len(first.vit_ms)} rounds, all in turn. {machine}, {env.threads} thread(s), {env.dtype}.",
        f"ms: the method's own decisions at all its points, ratio {first.ratio:g}, clustered random features. of "
        f"ViT-L: as a share of a ViT-L/14 that encodes {first.tokens} tokens ({encoder}; on the clock {wall}), target "
        f"below {LIMIT:.0%}. around: reading attention beside the kernel and applying the decisions, wall time.",
    ]
    return Table(f"Choosing among {first.tokens} tokens", heads, rows, notes=notes)
