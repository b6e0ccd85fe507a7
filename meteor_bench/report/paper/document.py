"""A paper's tables as a document, with every figure's source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meteor_bench.models.locate import short_name
from meteor_bench.report import formats
from meteor_bench.report.document import Document
from meteor_bench.report.paper.layout import Filled, frame, tables
from meteor_bench.utils.structuring import plain

__all__ = ["document"]


def document(filled: Sequence[Filled]) -> Document:
    """Tables of one paper, as they are filled here."""
    return Document(
        lambda: tables(filled),
        lambda: {one.table.name: frame(one) for one in filled},
        ("row", "column", "origin", "model"),
        lambda: _data(filled),
    )


def _data(filled: Sequence[Filled]) -> dict[str, Any]:
    paper = filled[0].paper
    sources = {name: paper.sources[name] for name in dict.fromkeys(one.table.source for one in filled)}
    return {
        "paper": paper.name,
        "model": short_name(filled[0].model),
        "sources": plain(sources),
        "tables": {
            one.table.name: {
                "title": one.table.title,
                "source": one.table.source,
                "reported_for": one.table.model,
                "same_model": one.same_model,
                "baseline": one.baseline,
                "notes": [*one.table.notes, *one.notes],
                "numbers": formats.json_rows(frame(one)),
            }
            for one in filled
        },
    }
