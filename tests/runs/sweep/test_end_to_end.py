"""Sweeps as a user starts them, on the shipped model: resumed after a kill, and on Ray with the same results."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.records.run_folder import find_runs

COMMAND = [sys.executable, "-m", "meteor_bench", "sweep"]
ROOT = Path(__file__).parents[3]
SMALL = ["--ratios", "0.5", "--tasks", "pocket_gqa", "--limit", "6", "--seeds", "0,1", "--no-latency"]
SMALL += ["--device", "cpu"]

# A method that kills its process the first time it is asked.
DEADLY = """
import os, signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meteor_bench.core.pruner import Decision, View
from meteor_bench.methods.uniform import Uniform


@dataclass(frozen=True)
class Deadly(Uniform):
    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        died = Path(__file__).with_name("died")
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fuse(views)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With the package of the deadly method installed."""
    site = tmp_path / "site"
    info = site / "deadly-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "deadly.py").write_text(DEADLY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[meteor_bench.methods]\ndeadly = deadly:Deadly\n")
    path = os.pathsep.join([str(site), str(ROOT)])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *SMALL, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def results(out: Path) -> dict[str, list[dict[str, object]]]:
    """What each run in a folder answered, without what a clock says, by its fingerprint."""
    return {
        read_run(path).fingerprint: [
            {k: v for k, v in vars(s).items() if k != "latency_ms"} for s in read_samples(path)
        ]
        for path in find_runs(out)
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_sweep_goes_on(tmp_path: Path, environment: dict[str, str]) -> None:
    """The deadly method kills it in its third cell; the same command then finds two cells and the journal."""
    methods = ["--methods", "uniform,deadly,random"]
    assert run(tmp_path, environment, *methods, "--out", "runs").returncode == -9
    assert len(find_runs(tmp_path / "runs")) == 3
    done = run(tmp_path, environment, *methods, "--out", "runs")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("found finished") == 2 and len(find_runs(tmp_path / "runs")) == 5
    table = done.stdout
    assert table.startswith("pocket, 1 benchmark") and table.splitlines()[-1] == "runs"
    assert all(name in table for name in ("unpruned", "uniform 0.5", "deadly 0.5", "random 0.5"))
    whole = run(tmp_path, environment, *methods, "--out", "whole")
    assert whole.returncode == 0 and results(tmp_path / "whole") == results(tmp_path / "runs")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_ray_a_dead_worker_is_replaced_and_the_results_are_the_same(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    methods = ["--methods", "fastv,deadly,random"]
    done = run(tmp_path, environment, *methods, "--out", "ray", "--engine", "ray")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "died").exists()
    assert done.stderr.splitlines()[0] == "sweep: 5 to do" and len(done.stderr.splitlines()) == 6
    assert re.search(r"deadly at 0.5: \d", done.stderr)
    again = run(tmp_path, environment, *methods, "--out", "one-by-one")
    assert again.returncode == 0, again.stderr
    assert results(tmp_path / "ray") == results(tmp_path / "one-by-one")
    assert len(results(tmp_path / "ray")) == 5
    assert [line for line in done.stdout.splitlines() if line.startswith(" random")] == [
        line for line in again.stdout.splitlines() if line.startswith(" random")
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupted_ray_sweep_leaves_no_worker(tmp_path: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*COMMAND, *SMALL, "--methods", "fastv,random", "--out", "ray", "--engine", "ray"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "ray").glob("*/answers.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == ""
    assert err.splitlines()[-1].startswith("interrupted: ") and "Traceback" not in err
    done = run(tmp_path, environment, "--methods", "fastv,random", "--out", "ray")
    assert done.returncode == 0 and len(find_runs(tmp_path / "ray")) == 4
