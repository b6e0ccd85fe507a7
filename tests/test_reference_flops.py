"""The committed records at matched FLOPs: they load, are what their page says, and it names what was not run."""

from __future__ import annotations

import re

import pytest

from meteor_bench.core.registry import METHODS
from meteor_bench.report.runs import Cell, load
from scripts.readme import FLOPS


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return load(FLOPS)


@pytest.fixture(scope="module")
def page() -> str:
    return (FLOPS / "README.md").read_text(encoding="utf-8")


def test_all_are_at_the_ratio_and_on_the_questions_that_the_page_says(cells: list[Cell], page: str) -> None:
    (ratio,), (questions,) = re.findall(r"--ratios (\S+)", page), re.findall(r"(\d+) questions", page)
    for cell in cells:
        (run,) = cell.runs
        config = run.record.config
        assert sum(task.n for task in run.record.tasks) == int(questions)
        assert config.method == "none" or (config.match, config.ratio) == ("flops", float(ratio))
        assert config.seed == 0 and run.record.environment.dtype == "float32"
    assert all(cell.unpruned for cell in cells if cell.pruned)


def test_the_flops_were_matched(cells: list[Cell]) -> None:
    for cell in cells:
        if cell.pruned:
            tokens = cell.record.tokens
            assert tokens is not None and abs(tokens.realised["flops"] - cell.ratio) < 0.01, cell.label


def test_the_page_names_what_was_not_run(cells: list[Cell], page: str) -> None:
    run = {cell.record.config.method for cell in cells}
    _, said = page.split("Not all methods are there: ")
    named = set(re.findall(r"[a-z0-9-]+\+?", said.split("were not run")[0]))
    assert set(METHODS.rows) - run == named & set(METHODS.rows)
