"""The main job as a user starts it: another process, the shipped model, lmms-eval; also interrupted and killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from meteor_bench.data.suites import suite_tasks
from meteor_bench.records.reader import read_latency, read_run, read_samples
from meteor_bench.records.run_folder import find_runs
from tests.commands import Call

COMMAND = [sys.executable, "-m", "meteor_bench"]
# The tests of several workers share the cores.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command from an empty folder."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.slow  # a minute; `make check` in CI goes the same way on fewer questions
def test_the_main_job(tmp_path: Path) -> None:
    """Both models answer, three tables are printed and written, the last line is the folder, budgets are met."""
    done = run(tmp_path, "run", "--method", "meteor", "--ratio", "0.76", "--suite", "ci", "--limit", "3")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.splitlines()[-1]
    assert {p.name for p in folder.iterdir()} >= {"run.json", "samples.jsonl.gz", "latency.jsonl", "report.md"}
    for what in ("Accuracy", "Tokens", "Latency"):
        assert f"{what}: pocket-independent, meteor at ratio 0.76" in done.stdout
    record = read_run(folder)
    assert (record.status, record.model, record.exact) == ("complete", "pocket-independent", False)
    assert [t.task for t in record.tasks] == list(suite_tasks("ci"))
    assert all(t.n == t.n_expected == 3 for t in record.tasks)
    samples = read_samples(folder)
    assert len(samples) == 3 * len(suite_tasks("ci"))
    assert all(s.tokens["reference"] == 256 and 0 < s.tokens["final"] < 256 for s in samples)
    assert {s.session for s in read_latency(folder)} == {"unpruned", "run"}
    (unpruned,) = (path for path in find_runs(tmp_path / "results/runs") if path != folder)
    assert read_run(unpruned).fingerprint == record.baseline
    assert all(s.tokens["final"] == 256 for s in read_samples(unpruned))
    printed = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert any("difference" in row for row in printed["tables"]["accuracy"])


def begin(folder: Path, arguments: Sequence[str], answers: int) -> subprocess.Popen[str]:
    """Start a run and return when its journals hold that many answers."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background inherit "ignore Ctrl-C" from their shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 600
    while sum(j.read_bytes().count(b"\n") for j in folder.glob("results/runs/*/answers.jsonl")) < answers:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the run ended before it was interrupted: {process.communicate()}")
        time.sleep(0.02)
    return process


# Few answers at a time, so that there is a time between two of them.
LONG = ["run", "--method", "random", "--ratio", "0.5", "--tasks", "pocket_gqa,pocket_pope", "--limit", "30"]
SLOWLY = [*LONG, "--batch-size", "2"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(folder, *LONG).returncode == 0
    return results(folder)


def results(folder: Path) -> dict[str, list[dict[str, object]]]:
    """What the runs in a folder answered, without what a clock says."""
    paths = find_runs(folder / "results/runs")
    return {
        read_run(path).config.method: [
            {k: v for k, v in vars(s).items() if k != "latency_ms"} for s in read_samples(path)
        ]
        for path in paths
    }


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("answers", [10, 75], ids=["in the unpruned run", "in the method's run"])
def test_a_killed_run_goes_on_to_the_same_records(
    tmp_path: Path, uninterrupted: dict[str, list[dict[str, object]]], answers: int
) -> None:
    process = begin(tmp_path, SLOWLY, answers)
    process.kill()
    process.communicate()
    before = {p: p.stat().st_size for p in tmp_path.glob("results/runs/*/answers.jsonl")}
    again = run(tmp_path, *LONG)
    assert again.returncode == 0, again.stderr
    if answers > 60:
        assert "unpruned: taken from" in again.stderr
    assert "goes on in" in again.stderr
    assert len(find_runs(tmp_path / "results/runs")) == 2, "no second folder was begun"
    assert all(path.stat().st_size >= size for path, size in before.items()), "no answer was thrown away"
    for journal in tmp_path.glob("results/runs/*/answers.jsonl"):
        keys = [json.loads(line)["key"] for line in journal.read_text(encoding="utf-8").splitlines()]
        assert len(keys) == len(set(keys)) == 60, "every question was answered once"
    assert results(tmp_path) == uninterrupted


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ctrl_c(tmp_path: Path) -> None:
    process = begin(tmp_path, SLOWLY, 10)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == ""
    assert err.splitlines()[-1].startswith("interrupted: ") and "Traceback" not in err
    again = run(tmp_path, *LONG)
    assert again.returncode == 0 and "goes on in" in again.stderr


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of the shipped weights."""
    import meteor_bench.models

    shipped = Path(meteor_bench.models.__file__).parent / "weights" / "pocket"
    return Path(shutil.copytree(shipped, tmp_path / "weights"))


def test_a_corrupted_weight_file_is_one_line(weights: Path, call: Call) -> None:
    file = next(iter(sorted(weights.glob("*.safetensors"))))
    file.write_bytes(file.read_bytes()[:1000])
    done = call("run", "--source", str(weights), "--limit", "1")
    assert done.code == 2 and done.out == ""
    error = done.err.splitlines()[-1]
    assert error.startswith("error: ") and file.name in error and "Traceback" not in done.err


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = run(tmp_path, "run", "--limit", "1", "--out", "file/runs")
    assert done.returncode == 2 and "error: cannot write to file/runs: Not a directory" in done.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheel_carries_everything(tmp_path: Path) -> None:
    """Built, installed alone and started from another folder, it runs; nothing of the repository is used."""
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed = tmp_path / "installed"
    shutil.unpack_archive(wheel, installed, format="zip")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Before the editable install on the path: only the wheel's files are found.
    environment = {**ENVIRONMENT, "PYTHONPATH": str(installed)}
    where = [sys.executable, "-c", "import meteor_bench as m; print(m.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(installed)
    arguments = ["run", "--method", "meteor", "--ratio", "0.76", "--suite", "ci", "--limit", "1"]
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (elsewhere / done.stdout.splitlines()[-1] / "run.json").is_file()
