"""Cells whose ratios are of different measures never stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from meteor_bench.core.registry import METHODS
from meteor_bench.report import html
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.layout import lay_out, overview
from meteor_bench.report.runs import Cell, load
from meteor_bench.report.sections import CONTROLS, sections


def matched(cell: Cell) -> Cell:
    """The same cell with its ratio of FLOPs."""
    runs = []
    for run in cell.runs:
        config = replace(run.record.config, match="flops")
        runs.append(replace(run, record=replace(run.record, config=config, fingerprint=run.record.fingerprint[::-1])))
    return Cell(tuple(runs), cell.unpruned)


def test_measures_stand_apart(runs: Mapping[str, Path]) -> None:
    cells = load(runs["none"].parent)
    pruned = [cell for cell in cells if cell.pruned]
    both = [*cells, *map(matched, pruned)]
    tokens, flops = sections(both)
    assert (tokens.match, flops.match) == ("tokens", "flops")
    assert [cell.match for cell in flops.cells if cell.pruned] == ["flops"] * len(pruned)
    assert not tokens.cells[0].pruned and flops.cells[0] is tokens.cells[0]
    # The best of each ratio is the best among its own.
    assert accuracy(tokens)["best"].tolist() == accuracy(flops)["best"].tolist()
    assert all(cell.name.endswith("of FLOPs") for cell in flops.cells if cell.pruned)
    titles = [table.title for table in [*lay_out(both), *overview(both)]]
    assert sum("ratio of FLOPs" in title for title in titles) == len(titles) / 2
    notes = [note for table in overview(both) for note in table.notes]
    assert sum(note.startswith("Ratios are of the FLOPs to the first token") for note in notes) == 1


def test_the_default_is_not_named(runs: Mapping[str, Path]) -> None:
    (section,) = sections(load(runs["none"].parent))
    assert section.match == "tokens" and section.of == ""


def test_the_controls_are_those_of_the_table_and_each_has_a_grey() -> None:
    assert set(CONTROLS) == {name for name in METHODS.rows if METHODS.load(name).fact.paper == "control"} - {"none"}
    style = (Path(html.__file__).parent / "static" / "style.css").read_text(encoding="utf-8")
    assert all(style.count(f"--g{number}:") == 2 for number in range(len(CONTROLS))), "in the light and the dark theme"
