"""The committed tables are what the committed records give."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from meteor_bench.report.render import document
from meteor_bench.report.runs import load
from meteor_bench.runs.sweep import grid
from scripts import reference_pocket as reference

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_tables_are_those_of_the_records() -> None:
    assert (reference.FOLDER / "README.md").read_text(encoding="utf-8") == reference.tables()
    assert (reference.FOLDER / "report.csv").read_text(encoding="utf-8") == document(load(reference.FOLDER)).render(
        "csv"
    )


def test_every_setting_is_there() -> None:
    """Of no method a cell is missing, and none is left over; what draws has three seeds."""
    cells = load(reference.FOLDER)
    configs = [run.record.config for cell in cells for run in cell.runs]
    found = {(c.method, c.ratio, c.seed) for c in configs}
    methods = {c.method for c in configs}
    assert {"none", "random", "fastv", "evoprune", "meteor"} <= methods
    wanted = {(c.method, c.ratio, c.seed) for c in grid.cells(reference.config()) if c.method in methods}
    assert found == wanted and len(found) == len(configs)
    assert all(cell.unpruned for cell in cells if cell.pruned)


def test_budgets_are_exact_on_every_sample() -> None:
    for cell in load(reference.FOLDER):
        for run in cell.runs:
            if run.record.exact:
                assert run.record.tokens is not None and run.record.tokens.missed == 0


def test_small_enough_to_commit() -> None:
    sizes = [path.stat().st_size for path in reference.FOLDER.rglob("*") if path.is_file()]
    assert max(sizes) < 4e6 and sum(sizes) < 25e6


def test_reading_is_quick() -> None:
    start = perf_counter()
    reference.tables()
    assert perf_counter() - start < 10, "it takes 2 s on an idle core"
