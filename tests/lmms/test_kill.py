"""A run that is killed with SIGKILL goes on where it stopped and ends with the same records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from meteor_bench.lmms.evaluate import evaluate
from tests.lmms.fakes import FakeSession, oracle

TASKS = ["pocket_seed", "pocket_gqa"]
LIMIT = 30
PROGRAM = f"""
from pathlib import Path
from meteor_bench.lmms.evaluate import evaluate
from tests.lmms.fakes import oracle
import sys
evaluate(oracle(delay_s=0.02), {TASKS}, journal=Path(sys.argv[1]), batch_size=32, limit={LIMIT})
"""


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    journal = tmp_path / "killed" / "answers.jsonl"
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(journal)], cwd=root, env={**os.environ})
    try:
        deadline = time.monotonic() + 240
        # Past the first benchmark, into the second.
        while lines(journal) < LIMIT + 5 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = lines(journal)
    assert LIMIT + 5 <= kept < 2 * LIMIT
    with journal.open("ab") as file:
        file.write(b'{"fingerprint": "torn')

    session = oracle()
    resumed = run(session, journal)
    assert len(session.asked) == 2 * LIMIT - kept
    assert resumed == run(oracle(), tmp_path / "whole" / "answers.jsonl")


def run(session: FakeSession, journal: Path) -> list[object]:
    results = evaluate(session, TASKS, journal=journal, batch_size=5, limit=LIMIT)  # type: ignore[arg-type]
    return list(results)
