"""lmms-eval's own tasks through the command line: the shipped model, look-alikes of the data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from meteor_bench.records.reader import read_run, read_samples
from scripts.make_lookalikes import make
from tests.commands import Call

TASKS = ("pope", "mmmu_val", "videomme")
QUIET = ("--method", "fastv", "--ratio", "0.5", "--no-baseline")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "root", TASKS)
    return tmp_path / "root"


def test_without_data_nothing_is_loaded(call: Call) -> None:
    for command in (("run", *QUIET), ("run", *QUIET, "--dry-run")):
        result = call(*command, "--suite", "meteor11")
        said = result.err.splitlines()[-1]
        assert result.code == 2 and "weights" not in said
        assert said.startswith("error: scienceqa_img needs lmms-lab-encoder/ScienceQA of the hub; give --data-root DIR")
    assert "--data-root: nowhere is no folder" in call("run", *QUIET, "--data-root", "nowhere").err


@pytest.mark.slow
def test_show_draws_a_question_from_the_root(call: Call, root: Path) -> None:
    result = call("show", "pope/1", "--method", "fastv", "--ratio", "0.5", "--data-root", str(root))
    assert result.code == 0, result.err
    assert Path(result.out.splitlines()[-1]).is_file() and "reference answer: yes" in result.out


@pytest.mark.slow
def test_a_run_from_a_root_is_kept_until_its_data_change(call: Call, root: Path) -> None:
    arguments = ("run", *QUIET, "--tasks", ",".join(TASKS), "--data-root", str(root))
    first = call(*arguments)
    assert first.code == 0, first.err
    folder = Path(first.out.splitlines()[-1])
    record = read_run(folder)
    assert [task.n for task in record.tasks] == [6, 4, 6] and record.config.data_root == root
    samples = read_samples(folder)
    assert {s.task: s.tokens["reference"] for s in samples} == {"pope": 256, "mmmu_val": 256, "videomme": 256}
    said = "ook-alike data: nothing measured on it says anything about the benchmark"
    assert first.err.count(said) == 1 and first.out.count(said) == 1
    assert record.lookalike and all(task.data.startswith("look-alike ") for task in record.tasks)
    moved = root.rename(root.with_name("moved"))
    again = call(*arguments[:-1], str(moved))
    assert read_run(Path(again.out.splitlines()[-1])).fingerprint == record.fingerprint
    fewer = call(*arguments[:-1], str(moved), "--frames", "2")
    assert read_run(Path(fewer.out.splitlines()[-1])).fingerprint != record.fingerprint


@pytest.mark.slow
def test_broken_videos_end_a_run_or_are_counted(call: Call, root: Path) -> None:
    (root / "videomme" / "data" / "look00000000.mp4").write_bytes(b"no video")
    arguments = ("run", *QUIET, "--tasks", "videomme", "--data-root", str(root))
    stopped = call(*arguments)
    assert stopped.code == 2 and "look00000000.mp4 is no video that can be read" in stopped.err
    skipped = call(*arguments, "--skip-broken")
    assert (
        skipped.code == 1
        and "error: 3 samples could not be answered and count as wrong; the first: videomme: row 0" in skipped.err
    )
    record = read_run(Path(skipped.out.splitlines()[-1]))
    assert record.tasks[0].n == 6 and record.tokens is not None and record.tokens.final.min > 0
    shutil.rmtree(root)


def test_a_missing_video_is_known_before_a_model_is_loaded(call: Call, root: Path) -> None:
    (root / "videomme" / "data" / "look00000001.mp4").unlink()
    arguments = ("run", *QUIET, "--tasks", "videomme", "--data-root", str(root))
    for more in ((), ("--dry-run",)):
        stopped = call(*arguments, *more)
        assert stopped.code == 2 and "weights" not in stopped.err.splitlines()[-1]
        assert stopped.err.splitlines()[-1].startswith("error: videomme: 1 of 2 videos is missing in ")
    assert call(*arguments, "--limit", "3", "--dry-run").code == 0


@pytest.mark.slow
def test_missing_videos_are_counted_where_that_is_wanted(call: Call, root: Path) -> None:
    (root / "videomme" / "data" / "look00000001.mp4").unlink()
    skipped = call("run", *QUIET, "--tasks", "videomme", "--data-root", str(root), "--skip-broken")
    assert skipped.code == 1 and "error: 3 samples could not be answered and count as wrong" in skipped.err
