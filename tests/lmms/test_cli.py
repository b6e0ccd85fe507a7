"""The published plug-in: lmms-eval's own command line gives what our runner gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meteor_bench.config.run_config import load
from meteor_bench.data.calibration import calibration_requests
from meteor_bench.data.shipped import tasks_dir
from meteor_bench.data.suites import benchmark
from meteor_bench.engine.factory import blueprint
from meteor_bench.lmms.evaluate import evaluate


@pytest.mark.slow
def test_lmms_eval_s_own_command_line_gives_the_same_answers(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-m", "lmms_eval", "--model", "meteor_bench", "--batch_size", "8", "--log_samples"]
    command += ["--model_args", "method=random,ratio=0.76,seed=5,device=cpu", "--tasks", "pocket_pope,pocket_videomme"]
    command += ["--include_path", str(tasks_dir()), "--limit", "24", "--output_path", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env={**os.environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    config = load(None, {"method": "random", "ratio": 0.76, "seed": 5, "device": "cpu"})
    session = blueprint(config).session(calibration_requests)
    tasks = ["pocket_pope", "pocket_videomme"]
    ours = evaluate(session, tasks, journal=tmp_path / "a.jsonl", batch_size=32, limit=24)
    (results,) = (tmp_path / "out").rglob("*_results.json")
    theirs = json.loads(results.read_text(encoding="utf-8"))["results"]
    for result in ours:
        own = {f"{name},none" for name in benchmark(result.task).extra}
        shared = {key: value for key, value in result.metrics.items() if key not in own}
        assert {key: theirs[result.task][key] for key in shared} == pytest.approx(shared)
        (file,) = (tmp_path / "out").rglob(f"*_samples_{result.task}.jsonl")
        logged = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        counts = {sample["doc_id"]: sample["token_counts"][0] for sample in logged}
        for sample in result.samples:
            assert counts[sample["doc_id"]]["raw"] == sample["raw"]
            assert counts[sample["doc_id"]]["tokens"] == sample["tokens"]
            assert counts[sample["doc_id"]]["latency_ms"]["total"] > 0
