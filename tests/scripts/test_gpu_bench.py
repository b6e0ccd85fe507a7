"""The script for a GPU, at the size of a CPU: it times, keeps what is finished, and tells what failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meteor_bench.runs.latency.records import read_cells

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_bench.sh"


def bench(out: Path, models: str) -> subprocess.CompletedProcess[str]:
    small = {"METHODS": "fastv", "RATIOS": "0,0.5", "BATCHES": "2", "PASSES": "1", "WARMUP": "1"}
    settings = {**small, "DTYPE": "float32", "WEIGHTS": "", "PYTHON": sys.executable, "OUT": str(out)}
    environment = {**os.environ, **settings, "PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(SCRIPT), *models.split()], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_trial_on_a_cpu(tmp_path: Path) -> None:
    done = bench(tmp_path, "no-such-model pocket")
    assert done.returncode == 2 and "no-such-model" in done.stderr  # told, and the other is timed all the same
    cells = read_cells(tmp_path / "pocket")
    assert [(cell.ratio, cell.batch) for cell in cells] == [(0.0, 2), (0.5, 2)]
    kept = {row.name: row.samples[0]["tokens"]["kept"] for row in cells[1].rows}
    assert kept == {"unpruned": [256, 256], "eager": [256, 256], "fastv": [128, 128]}
