"""The script for a GPU, at the size of a CPU: it times, keeps what is finished, and tells what failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from meteor_bench.runs.latency.records import read_cells

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_bench.sh"


def surroundings(out: Path, **more: str) -> dict[str, str]:
    small = {"METHODS": "fastv", "FIRST": "", "RATIOS": "0,0.5", "BATCHES": "2", "PASSES": "1", "WARMUP": "1"}
    settings = {**small, "DTYPE": "float32", "WEIGHTS": "", "PYTHON": sys.executable, "BENCH_OUT": str(out), **more}
    return {**os.environ, **settings, "PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1"}


def bench(out: Path, models: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = surroundings(out, **more)
    return subprocess.run([str(SCRIPT), *models.split()], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_trial_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bench(out, "no-such-model pocket", FIRST="random")
    assert done.returncode == 2 and "no-such-model" in done.stderr  # told, and the other is timed all the same
    assert [path.name for path in out.iterdir()] == ["pocket.tar.gz"]
    with tarfile.open(out / "pocket.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    cells = read_cells(tmp_path / "pocket" / "all")
    assert [(cell.ratio, cell.batch) for cell in cells] == [(0.0, 2), (0.5, 2)]
    kept = {row.name: row.samples[0]["tokens"]["kept"] for row in cells[1].rows}
    assert kept == {"unpruned": [256, 256], "eager": [256, 256], "fastv": [128, 128]}
    assert {row.name for row in read_cells(tmp_path / "pocket" / "first")[0].rows} == {"unpruned", "eager", "random"}
    again = bench(out, "pocket", FIRST="random")
    assert again.returncode == 0 and again.stderr.count("taken from") == 3


def test_no_time_is_no_success(tmp_path: Path) -> None:
    assert bench(tmp_path, "pocket", BENCH_SECONDS="0").returncode == 124
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Everything is killed at once, without a chance to tidy up, when the first part has been kept."""
    out = tmp_path / "out"
    running = subprocess.Popen(
        [str(SCRIPT), "pocket"],
        env=surroundings(out, FIRST="random"),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not (out / "pocket.tar.gz").exists():
        assert running.poll() is None, "it ended by itself"
        time.sleep(0.05)
    for found in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(found.name)) == running.pid:
                os.kill(int(found.name), signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert [path.name for path in out.iterdir()] == ["pocket.tar.gz"]
    again = bench(out, "pocket", FIRST="random")
    assert again.returncode == 0 and again.stderr.count("taken from") == 1
    with tarfile.open(out / "pocket.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert [(cell.ratio, cell.batch) for cell in read_cells(tmp_path / "pocket" / "all")] == [(0.0, 2), (0.5, 2)]
