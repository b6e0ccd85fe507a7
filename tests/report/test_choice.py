"""Which cells a report shows, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meteor_bench.cli.report import app
from meteor_bench.core.errors import ConfigError
from meteor_bench.report.by import By
from meteor_bench.report.choice import grouped, only, top
from meteor_bench.report.render import frames
from meteor_bench.report.runs import Cell, load
from meteor_bench.report.sections import sections


def made(base: Cell, method: str, ratio: float, score: float) -> Cell:
    """A cell like another, of another method, with the same score everywhere."""
    (run,) = base.runs[:1]
    config = replace(run.record.config, method=method, ratio=ratio, parameters={})
    tasks = tuple(replace(task, score=score) for task in run.record.tasks)
    record = replace(run.record, config=config, tasks=tasks, fingerprint=f"{method}{ratio}".ljust(64, "0"))
    return Cell((replace(run, record=record),), base.unpruned)


@pytest.fixture
def cells(runs: dict[str, Path]) -> list[Cell]:
    found = load(runs["none"].parent)
    base = next(cell for cell in found if cell.pruned)
    plan = [("fastv", 60), ("evoprune", 70), ("holitom", 65), ("divprune", 50), ("random", 10), ("hiprune", 66)]
    return [
        *[c for c in found if not c.pruned],
        *(made(base, m, r, s - 9 * (r > 0.6)) for m, s in plan for r in (0.5, 0.76)),
    ]


def names(cells: Sequence[Cell], ratio: float = 0.5) -> list[str]:
    (section,) = sections(cells)
    return [cell.record.config.method for cell in section.cells if cell.ratio == ratio]


def test_only_some_methods(cells: list[Cell]) -> None:
    assert names(only(cells, ["divprune", "holitom"])) == ["holitom", "divprune"]
    assert not sections(only(cells, ["divprune"]))[0].cells[0].pruned
    other = next(cell for cell in cells if not cell.pruned)
    (run,) = other.runs
    config, print_ = replace(run.record.config, model="another"), "another".ljust(64, "0")
    alone = Cell((replace(run, record=replace(run.record, config=config, fingerprint=print_)),))
    assert {c.record.config.model for c in only([*cells, alone], ["divprune"])} == {other.record.config.model}
    assert alone in only([*cells, alone], ["none"]), "who asks for it gets it"
    with pytest.raises(ConfigError, match="no run of fastvv among these; there are divprune, evoprune"):
        only(cells, ["fastv", "fastvv"])


def test_the_best_of_each_ratio_and_the_controls(cells: list[Cell]) -> None:
    for ratio in (0.5, 0.76):
        assert names(top(cells, 2), ratio) == ["random", "evoprune", "hiprune"]
    assert names(top(cells, 99)) == names(cells)


def test_groups(cells: list[Cell]) -> None:
    assert names(grouped(cells, By.STAGE)) == ["random", "evoprune", "hiprune", "divprune", "fastv", "holitom"]
    assert names(grouped(cells, By.YEAR)) == ["random", "fastv", "holitom", "divprune", "evoprune", "hiprune"]
    labels = sections(grouped(cells, By.STAGE))[0].labels
    assert "encode: evoprune" in labels and "several stages: holitom" in labels and "random" in labels


def test_the_command(runs: dict[str, Path]) -> None:
    folder = str(runs["none"].parent)
    method = next(cell.record.config.method for cell in load(Path(folder)) if cell.pruned)
    out = CliRunner().invoke(app, [folder, "--methods", method, "--top", "1", "--by", "year", "--format", "markdown"])
    assert out.exit_code == 0 and method in out.output
    none = CliRunner().invoke(app, [folder, "--methods", " , "])
    assert none.exit_code == 2 and "expected names separated by commas" in " ".join(none.output.split())


def test_numbers_for_programs_have_the_methods_own_names(cells: list[Cell]) -> None:
    plain, by_stage = (frames(some)["accuracy"] for some in (cells, grouped(cells, By.STAGE)))
    assert set(plain["method"]) == set(by_stage["method"]) and "evoprune" in set(by_stage["method"])
