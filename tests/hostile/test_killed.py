"""Runs killed at any moment: the same command completes what is there, and repeats nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.yaml_settings import names
from meteor_bench.core.errors import ConfigError
from meteor_bench.records.reader import read_latency
from meteor_bench.records.run_folder import (
    RunFolder,
    find_runs,
)
from meteor_bench.runs.job import execute
from meteor_bench.utils.atomic_io import write_whole
from tests import fake_job
from tests.fake_job import Engine

FASTV = RunConfig(method="fastv", ratio=0.76, tasks=("pocket_gqa", "pocket_pope"), limit=6)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return fake_job.install(monkeypatch)


@pytest.fixture
def dead() -> int:
    """The number of a process that is no more."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)


def reports(out: Path) -> list[int]:
    return [len(list(path.glob("report.*"))) for path in find_runs(out)]


def test_a_complete_run_repeated_is_the_same_folder(engine: Engine, tmp_path: Path) -> None:
    config = replace(FASTV, out=tmp_path)
    first = execute(config)
    assert execute(config) == first and engine.asked == ["none", "fastv"]
    assert len(find_runs(tmp_path)) == 2


def test_a_run_killed_before_its_timing_is_completed(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(FASTV, out=tmp_path)

    def die(names: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_times", die)
        with pytest.raises(KeyboardInterrupt):
            execute(config)
    assert not any(map(read_latency, find_runs(tmp_path)))
    execute(config)
    assert all(map(read_latency, find_runs(tmp_path))) and reports(tmp_path) == [3, 3]
    # By its name, not by its place: folders that were made within a second are not sorted by time.
    (unpruned,) = tmp_path.glob("*-none-*")
    (pruned,) = tmp_path.glob("*-fastv-*")
    sessions = [{sample.session for sample in read_latency(path)} for path in (unpruned, pruned)]
    assert sessions == [{"run"}, {"run", "unpruned"}]


def test_a_run_killed_before_its_tables_gets_them(engine: Engine, tmp_path: Path) -> None:
    config = replace(FASTV, out=tmp_path)
    path = execute(config).path
    for file in path.glob("report.*"):
        file.unlink()
    execute(config)
    assert reports(tmp_path) == [3, 3] and engine.asked == ["none", "fastv"]


def test_what_a_dead_process_left_goes(tmp_path: Path, dead: int) -> None:
    config = replace(FASTV, out=tmp_path)
    with RunFolder.open(config, "f" * 64) as folder:
        path = folder.path
    for number in (dead, os.getppid()):
        (path / f".run.json.{number}").touch()
    with RunFolder.open(config, "f" * 64) as again:
        assert again.path == path and not again.resumed, "a folder without run.json is taken, not left"
    assert not (path / f".run.json.{dead}").exists() and (path / f".run.json.{os.getppid()}").exists()
    (tmp_path / f".page.html.{dead}").touch()
    write_whole(tmp_path / "page.html", b"x")
    assert not (tmp_path / f".page.html.{dead}").exists()


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_nothing_does_not_stand_for_everything(text: str) -> None:
    with pytest.raises(ConfigError, match="expected names separated by commas"):
        names(text)
