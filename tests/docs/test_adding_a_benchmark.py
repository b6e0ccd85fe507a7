"""docs/adding-a-benchmark.md from its first line to a table: folder, documents, entry point, commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from meteor_bench.core.errors import PluginError
from meteor_bench.data import suites
from tests.commands import Call
from tests.docs.guides import blocks, commands, installed, written

pytestmark = pytest.mark.xdist_group("lmms_eval")
PAGE = "adding-a-benchmark.md"
TABLE, TASK = blocks(PAGE, "yaml")
FUNCTIONS, DOCUMENTS = blocks(PAGE, "python")
COMMANDS = commands(PAGE)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's package, as `pip install .` leaves it."""
    monkeypatch.chdir(tmp_path)
    task = tmp_path / "squares" / "square_colour"
    task.mkdir(parents=True)
    (tmp_path / "squares" / "__init__.py").touch()
    (tmp_path / "squares" / "suites.yaml").write_text(TABLE)
    (task / "square_colour.yaml").write_text(TASK)
    (task / "utils.py").write_text(FUNCTIONS)
    exec(compile(DOCUMENTS, PAGE, "exec"), {})
    installed(tmp_path, "meteor_bench.benchmarks", blocks(PAGE, "toml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    suites._tables.cache_clear()
    monkeypatch.setattr(suites, "_tables", suites._tables.__wrapped__)
    return tmp_path / "squares"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    "given",
    [pytest.param(given, marks=[pytest.mark.slow] * (at > 1), id=" ".join(given)) for at, given in enumerate(COMMANDS)],
)
def test_each_command_ends_with_its_table(given: list[str], call: Call) -> None:
    assert [command[0] for command in COMMANDS] == ["list", "run", "sweep"]
    done = call(*given, *([] if given[0] == "list" else ["--device", "cpu"]))
    assert done.code == 0, done.err
    assert "square_colour" in done.out or "colour" in done.out
    for _, samples in [] if given[0] == "list" else written():
        asked = [s for s in samples if s["task"] == "square_colour"]
        assert {s["target"] for s in asked} <= {"red", "green", "blue", "yellow", "purple", "orange"}
        assert len(asked) == (6 if given[0] == "run" else 4)
        # Scored as the page's YAML says: by the answer's own words.
        assert all(s["score"] == float(s["answer"].lower() == s["target"]) for s in asked)
    assert "squares" not in sys.modules


def test_what_is_ours_stays_ours(package: Path) -> None:
    before = suites.benchmark("pocket_pope")
    row = TABLE.replace("square_colour:", "pocket_pope:").replace("[square_colour]", "[pocket_pope]")
    (package / "suites.yaml").write_text(row.replace("squares:", "pocket:"))
    assert suites.benchmark("pocket_pope") == before and len(suites.suite_tasks("pocket")) == 12


@pytest.mark.parametrize("named", ["no_such_package", "squares.suites", "json.tool:x"])
def test_an_entry_point_to_nowhere_is_one_line(named: str, package: Path) -> None:
    entry = package.parent / "guide-1.0.dist-info" / "entry_points.txt"
    entry.write_text(f"[meteor_bench.benchmarks]\nsquares = {named}\n")
    with pytest.raises(
        PluginError, match=re.escape(f"benchmarks 'squares' cannot be used: there is no package '{named}'")
    ):
        suites.benchmarks()


def test_a_broken_table_of_a_package_is_one_line(package: Path, call: Call) -> None:
    (package / "suites.yaml").write_text("benchmarks: 3\nsuites: {}\n")
    done = call("run", "--method", "fastv", "--ratio", "0.5", "--suite", "squares", "--dry-run")
    assert done.code == 2 and done.err.count("\n") == 1 and "squares/suites.yaml" in done.err
