"""What a benchmark's score is made of: in the records, in every format, beside the right settings."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.schema import TaskRecord
from meteor_bench.report import subscores
from meteor_bench.report.runs import Cell, load
from meteor_bench.report.table import MISSING
from tests import synthetic

ZERO = TaskRecord("", "general", "", 0.0, {}, "exact_match", {}, 40, 40, "d" * 64)
POPE = replace(
    ZERO,
    task="pocket_pope",
    metric="pope_f1_score,none",
    score=80.0,
    metrics={"pope_f1_score,none": 0.8, "pope_accuracy,none": 0.75, "pope_yes_ratio_of_answers,none": 0.4},
)
MME = replace(ZERO, task="mme", metric="mme_perception_score,none", metrics={"mme_cognition_score,none": 287.857})
LONG = replace(ZERO, task="long", group="video", families={"15": 25.0, "3600": 100 / 3, "60": 50.0})
PLAIN = replace(ZERO, task="gqa", metrics={"exact_match,none": 0.5})


def write(config: RunConfig, *tasks: TaskRecord) -> None:
    rows = [replace(s, task=task.task) for task in tasks for s in synthetic.samples(config)[:40]]
    synthetic.write(config, rows=rows, tasks=tasks)


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    write(RunConfig(out=tmp_path), POPE, MME, LONG, PLAIN)
    for seed, accuracy in enumerate((0.5, 0.7)):
        pope = replace(POPE, metrics={"pope_f1_score,none": 0.6, "pope_accuracy,none": accuracy})
        write(RunConfig(method="random", ratio=0.5, seed=seed, out=tmp_path), pope, MME, LONG, PLAIN)
    return load(tmp_path)


def test_a_table_for_each_benchmark_with_more_than_its_score(cells: list[Cell]) -> None:
    pope, long = subscores.lay_out(cells)
    assert pope.title == "pocket_pope: pocket"
    assert pope.columns == ["", "pope_f1_score", "pope_accuracy", "pope_yes_ratio_of_answers"]
    # The mean over the seeds; a run that is older than a metric lacks it.
    assert pope.rows == [["unpruned", "0.8", "0.75", "0.4"], ["random 0.5", "0.6", "0.6", MISSING]]
    assert "pope_yes_ratio_of_answers: ours, not lmms-eval's." in pope.notes[0]
    assert long.columns == ["", "15", "60", "3600"] and long.rows[0] == ["unpruned", "25.0", "50.0", "33.3"]


def test_every_format_has_the_numbers(cells: list[Cell]) -> None:
    table: list[dict[str, Any]] = json.loads(subscores.document(cells).render("json"))["tables"]["sub-scores"]
    (cognition,) = (r for r in table if r["metric"] == "mme_cognition_score" and r["method"] == "unpruned")
    assert (cognition["name"], cognition["kind"], cognition["score"]) == ("mme", "metric", 287.857)
    lines = list(csv.DictReader(io.StringIO(subscores.document(cells).render("csv"))))
    assert len(lines) == len(table) and {line["table"] for line in lines} == {"sub-scores"}
    assert f"| random 0.5 | 0.6 | 0.6 | {MISSING} |" in subscores.document(cells).render("markdown")
    assert "random 0.5 & 0.6 & 0.6" in subscores.document(cells).render("latex")


def test_a_run_without_any_says_so(tmp_path: Path) -> None:
    write(RunConfig(out=tmp_path), PLAIN)
    stream = io.StringIO()
    subscores.document(load(tmp_path)).write(stream, width=80)
    assert stream.getvalue() == "no benchmark of these runs has sub-scores\n"
