"""The committed tables are what the committed records give, and the records are what their sweeps ask for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from time import perf_counter

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.data.suites import suite_tasks
from meteor_bench.report.render import document
from meteor_bench.report.runs import Cell, load
from meteor_bench.runs.sweep import grid
from scripts import reference_pocket as reference

ROOT = Path(__file__).parents[1]
LATER = [folder for later in reference.ADDED.values() for folder in later]
FOLDERS = pytest.mark.parametrize("folder", [*reference.FOLDERS, *LATER], ids=lambda folder: folder.name)
# With those that `make tables` leaves alone, since they need packages; reading them needs none.
ALL = pytest.mark.parametrize("folder", [*reference.FOLDERS, *reference.ASKED_FOR], ids=lambda folder: folder.name)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@cache
def cells(folder: Path) -> list[Cell]:
    return load(folder)


@ALL
def test_the_tables_are_those_of_the_records(folder: Path) -> None:
    made = document(cells(folder))
    assert (folder / "README.md").read_text(encoding="utf-8") == reference.tables(folder, made)
    assert (folder / "report.csv").read_text(encoding="utf-8") == made.render("csv")


def setting(c: RunConfig) -> tuple[object, ...]:
    """What tells a folder's cells apart."""
    return c.model, c.method, tuple(sorted(c.parameters.items())), c.share, c.seed


@ALL
def test_every_setting_is_there(folder: Path) -> None:
    """Of no method a cell is missing, and none is left over; what draws has its seeds."""
    configs = [run.record.config for cell in cells(folder) for run in cell.runs]
    found = {setting(c) for c in configs}
    methods = {c.method for c in configs}
    asked = reference.config(folder)
    known = dict.fromkeys(reference.FOLDERS, "meteor") | {reference.COMP: "comp", reference.NAMED[-1]: "tome"}
    known |= {later: "vscan" if later.name.endswith("changed") else "ipcv" for later in LATER}
    assert {"none", known.get(folder, "evoprune")} <= methods
    wanted = {setting(c) for c in grid.cells(asked) if c.method in methods}
    pruned = [c for c in configs if c.method != "none"]  # each code that ran has an unpruned run of its own
    assert found == wanted and len({setting(c) for c in pruned}) == len(pruned)
    assert all(cell.unpruned for cell in cells(folder) if cell.pruned)
    assert {c.out for c in configs} == {folder}, "a record names a place that only one machine has"


@FOLDERS
def test_all_answered_the_same_questions_in_float32(folder: Path) -> None:
    for run in (run for cell in cells(folder) for run in cell.runs):
        assert sum(task.n for task in run.record.tasks) == 3440 and run.record.environment.dtype == "float32"


@pytest.mark.parametrize("folder", reference.NAMED, ids=lambda folder: folder.name)
def test_photographs_were_all_asked_about_alike(folder: Path) -> None:
    for run in (run for cell in cells(folder) for run in cell.runs):
        assert {task.task for task in run.record.tasks} == set(suite_tasks("natural"))
        assert {task.n for task in run.record.tasks} == {100} and run.record.environment.dtype == "bfloat16"


def test_long_clips_were_all_asked_about_whole() -> None:
    for run in (run for cell in cells(reference.VIDEO) for run in cell.runs):
        assert [(task.task, task.n) for task in run.record.tasks] == [("pocket_longvideo", 240)]
        assert run.record.environment.dtype == "float32"


def test_the_page_on_photographs_has_both_models_scores() -> None:
    page = (ROOT / "docs" / "natural.md").read_text(encoding="utf-8")
    scores = {
        (run.record.model, run.record.config.method, *run.record.config.parameters.items()): {
            task.task: task.score for task in run.record.tasks
        }
        for folder in reference.NAMED[:2]
        for cell in cells(folder)
        for run in cell.runs
    }
    independent = (("none",), ("meteor",), ("meteor", ("budgets", "uniform")))
    for columns in ([("natural", "none")], [("natural-independent", *column) for column in independent]):
        for task in suite_tasks("natural"):
            said = "".join(f" {scores[column][task]:.1f} |" for column in columns)
            assert f"| {task}{' (F1)' if task == 'natural_pope' else ''} |{said}\n" in page
        means = [sum(scores[column].values()) / len(scores[column]) for column in columns]
        assert f"| **average** |{''.join(f' **{mean:.1f}** |' for mean in means)}\n" in page


@ALL
def test_budgets_are_exact_on_every_sample(folder: Path) -> None:
    for run in (run for cell in cells(folder) for run in cell.runs):
        if run.record.exact:
            assert run.record.tokens is not None and run.record.tokens.missed == 0


@pytest.mark.parametrize(
    "folder",
    [reference.FOLDERS[1], *reference.ADDED[reference.FOLDERS[1]], *reference.NAMED[-1:], reference.COMP],
    ids=lambda folder: folder.name,
)
def test_the_flops_were_matched(folder: Path) -> None:
    for cell in cells(folder):
        if cell.pruned:
            tokens = cell.record.tokens
            assert cell.match == "flops" and tokens is not None
            assert abs(tokens.realised["flops"] - cell.ratio) < 0.01, cell.label


def test_small_enough_to_commit() -> None:
    folders = (*reference.FOLDERS, *reference.ASKED_FOR)
    sizes = [path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert max(sizes) < 4e6 and sum(sizes) < 36e6


def test_reading_is_quick() -> None:
    start = perf_counter()
    reference.tables(reference.FOLDERS[0], document(load(reference.FOLDERS[0])))
    assert perf_counter() - start < 10, "it takes 2 s on an idle core"
