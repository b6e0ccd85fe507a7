"""A root of look-alikes says so itself: its numbers of rows hold, and real data are not mixed in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from meteor_bench import cli
from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.check import check
from meteor_bench.data.fetch import fetch
from meteor_bench.data.lookalike import NAME, counted, rows
from scripts.make_lookalikes import make

TASKS = ("pope", "longvideobench_val_v")


def test_its_own_numbers_of_rows_hold(root: Path, tmp_path: Path) -> None:
    make(root, TASKS[:1])
    make(root, TASKS[1:])
    assert rows(root) == {"pope": 6, "longvideobench_val_v": 4}
    assert [counted(suites.benchmark(task), root).n for task in TASKS] == [6, 4]
    assert counted(suites.benchmark("gqa"), root) == suites.benchmark("gqa")
    assert counted(suites.benchmark("pocket_pope"), root) == suites.benchmark("pocket_pope")
    assert rows(tmp_path) is None and counted(suites.benchmark("pope"), tmp_path).n == 9000


def test_check_knows_what_should_be_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(root, TASKS)
    monkeypatch.setattr(sys, "argv", ["meteor-bench", "data", "check", "--root", str(root)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert not end.value.code and out.count("rows counted") == 2
    assert err == "note: look-alike data: nothing measured on it says anything about the benchmark\n"
    (root / NAME).unlink()
    (row,) = check(root, [suites.benchmark("pope")])
    assert "has 6 rows in its split test, expected 9000" in row["problems"][0]


def test_nothing_is_fetched_into_it(root: Path) -> None:
    make(root, TASKS[:1])
    with pytest.raises(DataError, match="holds look-alikes, which real data are not to be mixed with; give another"):
        fetch([suites.benchmark("gqa")], root)


@pytest.mark.parametrize("text", ["{", '{"rows": {"pope": "many"}}', "[]"])
def test_a_broken_file_is_one_line(root: Path, text: str) -> None:
    root.mkdir()
    (root / NAME).write_text(text)
    with pytest.raises(DataError, match="make the look-alikes again") as told:
        rows(root)
    assert "\n" not in str(told.value)
