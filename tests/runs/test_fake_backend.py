"""The shipped fake backend: a whole job without a model, and records that say so."""

from __future__ import annotations

from pathlib import Path

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.runs.fake_backend import FakeBackend
from meteor_bench.runs.job import execute
from tests import synthetic

TASKS = tuple(synthetic.GROUPS)


def test_a_job_runs_on_given_answers(tmp_path: Path) -> None:
    backend = FakeBackend(lambda config, limit: synthetic.samples(config, n=limit or 4))
    config = RunConfig(method="fastv", ratio=0.5, tasks=TASKS, limit=4, out=tmp_path)
    outcome = execute(config, timed=False, backend=backend)
    assert backend.asked == ["none", "fastv"] and outcome.missed == 0
    assert read_run(outcome.path).checkpoint == "fake" and len(read_samples(outcome.path)) == 4 * len(TASKS)
