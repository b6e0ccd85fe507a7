"""What a sweep is said to take: from records where there are some, else from a probe; never from another machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.core.errors import BudgetError
from meteor_bench.records.run_folder import find_runs
from meteor_bench.runs.job import Job
from meteor_bench.runs.single_run import SingleRun
from meteor_bench.runs.sweep import estimate
from meteor_bench.runs.sweep.command import told
from meteor_bench.runs.sweep.estimate import plan
from meteor_bench.runs.sweep.grid import title
from meteor_bench.runs.sweep.runner import sweep
from tests import fake_job, synthetic
from tests.fake_job import Engine

TASKS = tuple(synthetic.GROUPS)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(estimate, "_check", lambda job: None)
    monkeypatch.setattr(SingleRun, "environment", synthetic.ENVIRONMENT)
    return fake_job.install(monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> SweepConfig:
    out = tmp_path / "runs"
    return SweepConfig(methods=("fastv", "evoprune"), ratios=(0.5, 0.76), tasks=TASKS, limit=200, out=out)


def recorded(config: SweepConfig, method: str, ratio: float, seconds: float, **more: Any) -> None:
    """A finished run of 40 questions of each of the five benchmarks."""
    run = RunConfig(method=method, ratio=ratio, out=config.out)
    synthetic.write(run, seconds={"answers": seconds, "latency": 7.0}, peak_memory=3 * 2**30, **more)


def test_without_a_record_the_unpruned_model_is_probed_once(engine: Engine, config: SweepConfig) -> None:
    planned = plan(config)
    assert [cell.source for cell in planned] == ["probe, unpruned"] * 5
    assert engine.asked == ["none", "none"], "once to warm up"
    assert all(cell.seconds > 0 and cell.memory for cell in planned)
    assert not config.out.exists(), "nothing is left behind"


def test_records_tell_more_than_a_probe(engine: Engine, config: SweepConfig) -> None:
    recorded(config, "none", 0.0, 20.0)
    recorded(config, "fastv", 0.7, 10.0)
    recorded(config, "fastv", 0.2, 99.0)
    planned = {title(cell.run): cell for cell in plan(config)}
    assert engine.asked == []
    found = {name: (cell.source, cell.seconds) for name, cell in planned.items()}
    assert found == {
        "unpruned": ("record", pytest.approx(20 * 5 + 7)),
        "fastv at 0.5": ("record at 0.7", pytest.approx(10 * 5 + 7)),
        "fastv at 0.76": ("record at 0.7", pytest.approx(10 * 5 + 7)),
        "evoprune at 0.5": ("record, unpruned", pytest.approx(20 * 5 + 7)),
        "evoprune at 0.76": ("record, unpruned", pytest.approx(20 * 5 + 7)),
    }
    assert planned["fastv at 0.5"].memory == 3 * 2**30
    without = plan(replace(config, latency=False))
    assert without[0].seconds == pytest.approx(20 * 5)


def test_what_is_calibrated_costs_more(engine: Engine, config: SweepConfig, monkeypatch: Any) -> None:
    recorded(config, "none", 0.0, 20.0)
    recorded(config, "evoprune", 0.5, 20.0)
    plain = plan(config)
    made_for = engine.blueprint

    def calibrated(run: RunConfig, load: Any) -> Any:
        made: Any = made_for(run, load)
        made.pruner.needs_calibration, made.pruner.calibration = True, ("encode", "decode")
        return made

    monkeypatch.setattr(engine, "blueprint", calibrated)
    dearer = plan(config)
    # Two passes over the 237 calibration questions at 0.1 s each.
    assert dearer[-1].seconds - plain[-1].seconds == pytest.approx(2 * 237 * 0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": replace(synthetic.ENVIRONMENT, processor="Another CPU")},
        {"environment": replace(synthetic.ENVIRONMENT, threads=8)},
        {"model": "pocket-independent"},
        {"status": "partial"},
    ],
    ids=["another machine", "other threads", "another model", "unfinished"],
)
def test_other_records_tell_nothing(engine: Engine, config: SweepConfig, change: dict[str, Any]) -> None:
    recorded(config, "none", 0.0, 20.0, **change)
    assert plan(config)[0].source == "probe, unpruned"


def test_finished_and_impossible_cells_cost_nothing(engine: Engine, config: SweepConfig, monkeypatch: Any) -> None:
    small = replace(config, methods=("fastv",), limit=10)
    sweep(small)

    def check(job: Job) -> None:
        if job.main.config.method == "evoprune":
            raise BudgetError("61 tokens cannot be\nreached")

    monkeypatch.setattr(estimate, "_check", check)
    planned = plan(replace(small, methods=("fastv", "evoprune"), ratios=(0.76, 0.889)))
    assert [(cell.state, cell.seconds > 0) for cell in planned] == [
        ("finished", False),
        ("finished", False),
        ("to do", True),
        ("61 tokens cannot be reached", False),
        ("61 tokens cannot be reached", False),
    ]
    lines = told(planned, 120)
    assert lines[0].split() == ["cell", "model", "on", "time", "memory", "from"]
    assert lines[1].split()[0] == "unpruned" and lines[1].endswith("finished")
    (dearer,) = [line for line in lines if line.startswith("fastv at 0.889")]
    assert dearer.endswith("record at 0.76")
    assert lines[-2] == "impossible: evoprune at 0.889 (pocket): 61 tokens cannot be reached"
    assert lines[-1].startswith("5 cells, 2 finished, 2 impossible; about ")
    assert len(find_runs(config.out)) == 3
