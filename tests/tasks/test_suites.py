"""The tables of benchmarks and suites, without lmms-eval."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from meteor_bench.core.errors import DataError, UnknownNameError
from meteor_bench.data import suites
from meteor_bench.lmms.scoring import EXTRA


def test_the_suites_are_the_ones_promised() -> None:
    assert suites.suite_names() == [
        *(
            "pocket11",
            "pocket",
            "pocket-video",
            "natural",
            "ci",
            "meteor11",
            "videomme",
            "evoprune-image",
            "evoprune-video",
            "llava10",
            "lite",
        )
    ]
    pocket = suites.resolve("pocket")
    assert len(pocket) == 12
    assert [row.task for row in pocket[:11]] == list(suites.suite_tasks("pocket11"))
    groups = {group: [row.task for row in pocket if row.group == group] for group in ("knowledge", "general", "ocr")}
    assert groups == {
        "knowledge": ["pocket_scienceqa", "pocket_ai2d"],
        "general": ["pocket_gqa", "pocket_vqa", "pocket_pope", "pocket_seed", "pocket_mmbench"],
        "ocr": ["pocket_textvqa", "pocket_chartqa", "pocket_docvqa", "pocket_ocrbench"],
    }


def test_meteors_eleven_are_in_its_three_groups() -> None:
    rows = suites.resolve("meteor11")
    groups = {group: [row.task for row in rows if row.group == group] for group in ("knowledge", "general", "ocr")}
    assert groups == {
        "knowledge": ["scienceqa_img", "ai2d", "mmmu_val"],
        "general": ["gqa", "pope", "seedbench", "mmbench_en_dev_static"],
        "ocr": ["textvqa_val", "chartqa", "docvqa_val", "ocrbench"],
    }
    assert {row.task for row in rows if "our choice" in row.reported} == {"mmmu_val", "mmbench_en_dev_static"}


def test_a_default_suite_needs_no_data_of_others() -> None:
    assert not any(row.stock for suite in ("pocket", "pocket11", "ci") for row in suites.resolve(suite))
    assert {row.n for row in suites.resolve("lite")} == {500}
    assert len(suites.resolve("evoprune-video")) == 22 and len(suites.resolve("llava10")) == 10


def test_rows_know_their_name_and_the_metric_of_single_answers() -> None:
    assert suites.benchmark("pocket_gqa").sample_metric == "exact_match"
    assert suites.benchmark("pocket_pope").sample_metric == "pope_accuracy"
    assert all(row.task == name for name, row in suites.benchmarks().items())


def test_metrics_of_our_own_are_known_to_the_scoring() -> None:
    rows = suites.benchmarks().values()
    assert {name for row in rows for name in row.extra} == set(EXTRA)
    assert [row.task for row in rows if row.extra] == ["pocket_pope", "natural_pope", "pope"]


def test_named_tasks_win_over_the_suite_and_come_once() -> None:
    rows = suites.resolve("pocket", ["pocket_pope", "pocket_gqa", "pocket_pope"])
    assert [row.task for row in rows] == ["pocket_pope", "pocket_gqa"]


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown suite 'pockets'; did you mean 'pocket'"):
        suites.suite_tasks("pockets")
    with pytest.raises(UnknownNameError, match="unknown task 'pocket_gqb'; did you mean 'pocket_gqa'"):
        suites.benchmark("pocket_gqb")


ROW = {"group": "ocr", "metric": "m,none", "scale": 1, "dataset": "d", "split": "s", "n": 1, "mirrors": "m"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"benchmarks": {"a": {**ROW, "n": "many"}}, "suites": {}}, r"benchmarks\.a\.n: expected a whole number"),
        ({"benchmarks": {"a": {**ROW, "group": "x"}}, "suites": {}}, r"expected one of knowledge, general"),
        ({"benchmarks": {"a": {**ROW, "metrc": 1}}, "suites": {}}, r"did you mean 'metric'"),
        ({"benchmarks": {"a": ROW}, "suites": {"s": ["b"]}}, "suite s: unknown benchmark 'b'"),
        ({"benchmarks": {}}, r"suites: the key is missing"),
        ([1], "expected a table"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, tables: object, message: str) -> None:
    file = tmp_path / "suites.yaml"
    file.write_text(yaml.safe_dump(tables), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        suites.read_tables(file)
    assert "\n" not in str(error.value)


def test_broken_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "suites.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(DataError) as error:
        suites.read_tables(tmp_path / "suites.yaml")
    assert "\n" not in str(error.value)


def test_reading_the_tables_imports_nothing_heavy() -> None:
    program = (
        "import sys, meteor_bench.data.suites as s; s.task_names();"
        "print([m for m in ('numpy', 'torch', 'datasets', 'lmms_eval', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
