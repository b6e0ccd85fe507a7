"""The printed tables: they fit, they agree with the records, and programs can read them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from meteor_bench.config import RunConfig
from meteor_bench.report import render
from meteor_bench.report.cells import Cell, load
from meteor_bench.report.rows import print_rows
from tests import synthetic


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    return dict(synthetic.reference(tmp_path))


def terminal(cells: list[Cell], width: int) -> str:
    stream = io.StringIO()
    render.as_terminal(cells, stream, width)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_is_not_overrun(runs: dict[str, Path], tmp_path: Path, width: int) -> None:
    synthetic.write(RunConfig(method="meteor", ratio=0.889, stages=("encode", "fuse"), out=tmp_path))
    for path in (runs["none"], runs["meteor0.76"], tmp_path):
        text = terminal(load(path), width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text, "a cell was cut"


def test_one_setting_is_shown_beside_the_unpruned_run(runs: dict[str, Path]) -> None:
    text = terminal(load(runs["meteor0.76"]), 80)
    score = next(t.score for t in load(runs["meteor0.76"])[0].record.tasks if t.task == "pocket_gqa")
    line = next(line for line in text.splitlines() if line.strip().startswith("pocket_gqa"))
    assert f"{score:.1f}" in line.split()
    for said in (
        "Accuracy",
        "Tokens",
        "Latency",
        "unpruned",
        "95 % interval",
        "METEOR average",
        "Ratio requested 0.7600",
    ):
        assert said in text
    assert "adaptive: met on average" in text
    assert "meteor runs on pocket-independent; unpruned is pocket." in text


def test_what_was_measured_or_substituted_is_said(tmp_path: Path) -> None:
    facts = {"meteor.lambda": 31.5, "meteor.ranks": [{"a": 3.0}]}
    synthetic.write(RunConfig(method="meteor", ratio=0.5, out=tmp_path), facts=facts, note="tower 'c' is different")
    text = " ".join(terminal(load(tmp_path), 80).split())
    assert "meteor 0.5: tower 'c' is different." in text
    assert "which are never evaluated: meteor.lambda 31.5." in text


def test_several_settings_are_shown_a_row_each(runs: dict[str, Path], tmp_path: Path) -> None:
    lines = [line.split() for line in terminal(load(tmp_path), 80).splitlines()]
    heads = [line[:2] for line in lines if line and line[0] in ("unpruned", "meteor", "random")]
    assert heads.count(["meteor", "0.5"]) == 3, "one row in each of the three tables"
    assert heads.count(["random", "0.76"]) == 3


def test_markdown_has_one_cell_per_column(runs: dict[str, Path], tmp_path: Path) -> None:
    for path in (runs["meteor0.5"], tmp_path):
        tables = re.split(r"^### ", render.as_markdown(load(path)), flags=re.M)[1:]
        assert len(tables) >= 3
        for table in tables:
            rows = [line for line in table.splitlines() if line.startswith("|")]
            assert len({row.count("|") for row in rows}) == 1 and len(rows) > 2


def test_csv_and_json_agree(tmp_path: Path, runs: dict[str, Path]) -> None:
    cells = load(tmp_path)
    document = json.loads(render.as_json(cells))
    assert len(document["runs"]) == len(runs)
    rows = list(csv.DictReader(io.StringIO(render.as_csv(cells))))
    flat = {(r["table"], r["method"], float(r["ratio"]), r["name"], r["column"]): float(r["value"]) for r in rows}
    assert len(flat) == len(rows), "no line is given twice"
    for table, content in document["tables"].items():
        for entry in content:
            name = f"{entry['name']}, {entry['unit']}" if "unit" in entry else entry["name"]
            for column, value in entry.items():
                if column in ("score", "difference_low", "mean", "p50", "speedup"):
                    assert flat[table, entry["method"], entry["ratio"], name, column] == pytest.approx(value)


def test_no_path_of_this_machine_is_in_a_report(tmp_path: Path, runs: dict[str, Path]) -> None:
    cells = load(runs["meteor0.5"])
    for form, make in render.FORMATS.items():
        text = make(cells)
        if form == "json":
            # The folder of runs is what the user gave with --out.
            text = text.replace(json.dumps(str(tmp_path))[1:-1], "")
        assert "/" not in text.replace("arXiv", ""), form


def test_rows() -> None:
    stream = io.StringIO()
    print_rows([{"name": "x", "many": ["a", "b"], "flag": True, "long": "words"}], stream, aside=("long",))
    words = [word for word in stream.getvalue().split() if "─" not in word]
    assert words == ["name", "many", "flag", "x", "a,", "b", "yes", "x", "long:", "words"]
    stream = io.StringIO()
    print_rows([{"name": "x"}], stream, as_json=True)
    assert json.loads(stream.getvalue()) == [{"name": "x"}]
