"""What papers report, beside what was measured here: the tables of `report.paper` that hold a run of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meteor_bench.report.html.markup import Html, tag
from meteor_bench.report.html.tables import printed
from meteor_bench.report.paper.layout import Filled, Origin, sides
from meteor_bench.report.paper.numbers import paper, papers
from meteor_bench.report.paper.run_index import RunIndex
from meteor_bench.report.sections import Section
from meteor_bench.report.table import REPORTED, Table

__all__ = ["Reported", "laid_out", "reported"]


@dataclass(frozen=True)
class Reported:
    """A paper's table.

    Attributes:
        title: with the paper's name.
        sides: whose numbers, and the table: one, or what was measured here and what was reported for another model.
    """

    title: str
    sides: Sequence[tuple[Origin, Table]]


def reported(section: Section) -> list[Reported]:
    """The tables in which a pruned row was reported and is measured here."""
    index = RunIndex(section.cells)
    model = section.cells[0].record.config.model
    found = []
    for of in map(paper, papers()):
        for table in of.tables:
            filled = Filled(of, table, model, index)
            pairs = zip(table.rows, filled.measured, strict=True)
            if any(row.reported and row.run and row.run.method != "none" and numbers for row, numbers in pairs):
                found.append(Reported(f"{of.title}: {table.title}", sides(filled)))
    return found


def laid_out(tables: Sequence[Reported]) -> list[Html]:
    """A figure for each table; what was measured and what was reported are told apart by more than their place."""
    return [
        tag(
            "figure",
            tag("figcaption", tag("h3", one.title)),
            tag("div", *(_side(*side) for side in one.sides), class_="sides"),
            class_="figure",
        )
        for one in tables
    ]


_SAID = {
    "measured": "measured here",
    "reported": f"reported {REPORTED} by the paper, not measured here",
    "both": f"measured here (reported {REPORTED} by the paper, in brackets)",
}


def _side(origin: Origin, table: Table) -> Html:
    badge = tag("span", _SAID[origin], class_=f"badge {origin}")
    return tag("div", badge, *printed(table), class_="side", data_origin=origin)
