"""Runs as `torchrun` and `accelerate launch` start them: two processes on a CPU, the shipped model, lmms-eval."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meteor_bench.records.reader import read_latency, read_run, read_samples
from meteor_bench.records.run_folder import find_runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RUN = ["run", "--method", "random", "--ratio", "0.5", "--tasks", "pocket_gqa,pocket_pope", "--limit", "15"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ANSWERS = 30
# The second rank fails at its fifth answer, of the method's run.
FAILING = """
import os, sys
from meteor_bench import cli
from meteor_bench.engine.session import Session
from meteor_bench.core.errors import DataError

answer = Session.answer

def fail(self, requests, on_answer, *more):
    left = [5]
    def count(request, result):
        on_answer(request, result)
        left[0] -= 1
        if not left[0]:
            raise {error}
    return answer(self, requests, count, *more)

if os.environ["RANK"] == "1":
    Session.answer = fail
sys.argv = ["meteor-bench", *{arguments}]
cli.main()
"""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_CONFIG_FILE": ""}


def call(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=900
    )


def results(folder: Path) -> dict[str, list[object]]:
    """What the runs in a folder found, without what a clock says."""
    found: dict[str, list[object]] = {}
    for path in find_runs(folder / "results/runs"):
        record = read_run(path)
        assert record.status == "complete" and read_latency(path)
        samples = [{k: v for k, v in vars(sample).items() if k != "latency_ms"} for sample in read_samples(path)]
        found[record.config.method] = [record.fingerprint, record.tasks, record.tokens, record.flops, samples]
    return found


def journalled(folder: Path) -> list[str]:
    """Keys of all answers on disk, run by run."""
    files = folder.glob("results/runs/*/answers*.jsonl")
    lines = [f"{f.parent.name} {line}" for f in files for line in f.read_text(encoding="utf-8").splitlines(True)]
    return [json.loads(line.partition(" ")[2])["key"] + line.partition(" ")[0] for line in lines if line[-1] == "\n"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    folder = tmp_path_factory.mktemp("alone")
    done = call(folder, [sys.executable, "-m", "meteor_bench", *RUN])
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.mark.parametrize("launcher", [TWO, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_leave_the_records_of_one(
    tmp_path: Path, alone: dict[str, list[object]], launcher: list[str]
) -> None:
    done = call(tmp_path, [*launcher, "-m", "meteor_bench", *RUN])
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == alone
    assert len(journalled(tmp_path)) == len(set(journalled(tmp_path))) == 2 * ANSWERS
    assert list(tmp_path.glob("results/runs/*/answers.rank*")) == []
    assert done.stdout.splitlines()[-1].startswith("results/runs/")
    for once in ("loading libraries and weights", "unpruned: done", "random at ratio 0.5: done"):
        assert done.stderr.count(once) == 1, "one rank speaks"


@pytest.mark.parametrize(
    ("error", "said"),
    [("DataError('row 7 is broken')", "error: rank 1: row 7 is broken"), ("KeyError('row')", "KeyError: 'row'")],
    ids=["a user's", "a bug"],
)
def test_a_failing_rank_ends_the_run_with_its_message_and_no_answer_is_lost(
    tmp_path: Path, alone: dict[str, list[object]], error: str, said: str
) -> None:
    program = tmp_path / "failing.py"
    program.write_text(FAILING.format(error=error, arguments=[*RUN, "--batch-size", "1"]), encoding="utf-8")
    began = time.monotonic()
    failed = call(tmp_path, [*TWO, str(program)])
    assert failed.returncode != 0 and said in failed.stderr
    assert time.monotonic() - began < 300
    kept = journalled(tmp_path)
    assert 5 <= len(kept) < ANSWERS
    # By one process: what both ranks had answered is used.
    done = call(tmp_path, [sys.executable, "-m", "meteor_bench", *RUN])
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == alone
    assert len(journalled(tmp_path)) == len(set(journalled(tmp_path))) == 2 * ANSWERS


def test_after_kill_9_of_a_rank_the_run_ends_and_goes_on(tmp_path: Path, alone: dict[str, list[object]]) -> None:
    process = subprocess.Popen(
        [*TWO, "-m", "meteor_bench", *RUN, "--batch-size", "1"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        victim = wait_for_rank(process, tmp_path)
        os.kill(victim, signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0, stderr
    kept = set(journalled(tmp_path))
    assert 0 < len(kept) < 2 * ANSWERS
    done = call(tmp_path, [*TWO, "-m", "meteor_bench", *RUN])
    assert done.returncode == 0, done.stderr
    assert "goes on in" in done.stderr
    assert kept <= set(journalled(tmp_path))
    assert len(journalled(tmp_path)) == 2 * ANSWERS, "every question was answered once"
    assert results(tmp_path) == alone


def wait_for_rank(launcher: subprocess.Popen[str], folder: Path) -> int:
    """The process number of rank 1, once it has answered something."""
    until = time.monotonic() + 600
    while time.monotonic() < until and launcher.poll() is None:
        if any(file.stat().st_size for file in folder.glob("results/runs/*/answers.rank1-*")):
            for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
                if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
                    return int(child)
        time.sleep(0.01)
    pytest.fail(f"rank 1 answered nothing: {launcher.communicate()}")
