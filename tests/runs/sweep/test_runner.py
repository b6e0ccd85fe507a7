"""The course of a sweep with a fake engine: what is run, what is kept, what a failed cell does."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.config import sweep_config
from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.core.errors import BudgetError, RecordError
from meteor_bench.engine.load_model import load_model
from meteor_bench.records.reader import read_latency, read_run
from meteor_bench.records.run_folder import find_runs
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.sweep.command import sweep as command
from meteor_bench.runs.sweep.runner import sweep
from meteor_bench.runs.sweep.summary import failures
from tests import fake_job
from tests.fake_job import Engine

SWEEP = SweepConfig(methods=("fastv", "random"), ratios=(0.5, 0.76), suites=("ci",), limit=4, seeds=(0, 1))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return fake_job.install(monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> SweepConfig:
    return replace(SWEEP, out=tmp_path / "runs")


def test_every_cell_is_run_once_and_kept(engine: Engine, config: SweepConfig, capsys: Any) -> None:
    results = sweep(config)
    assert engine.asked == ["none", "fastv", "fastv", "random", "random", "random", "random"]
    assert not failures(results) and not any(result.kept for result in results)
    assert sorted(find_runs(config.out)) == sorted(result.path for result in results if result.path)
    assert all(len(read_latency(path)) == (3 if "-none-" in path.name else 6) for path in find_runs(config.out))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sweep: 7 to do" and len(lines) == 8
    assert re.fullmatch(r"\[2/7\] fastv at 0.5: \d+\.\d on average, \d+ s \(about \d+ s left\)", lines[2])
    again = sweep(config)
    assert len(engine.asked) == 7, "nothing was asked again"
    assert all(result.kept for result in again) and [r.path for r in again] == [r.path for r in results]


def test_only_what_is_missing_is_run(engine: Engine, config: SweepConfig) -> None:
    sweep(config)
    sweep(replace(config, methods=("fastv", "evoprune"), ratios=(0.76, 0.889)))
    assert engine.asked[7:] == ["fastv", "evoprune", "evoprune"]


def test_without_timing(engine: Engine, config: SweepConfig) -> None:
    results = sweep(replace(config, latency=False))
    assert all(read_latency(result.path) == [] for result in results if result.path)
    assert all(result.kept for result in sweep(replace(config, latency=False)))
    sweep(config)
    assert len(find_runs(config.out)) == 7 and all(read_latency(path) for path in find_runs(config.out))


BREAKING = [
    (BudgetError("32 tokens cannot be reached; the nearest is 64"), "32 tokens cannot be reached; the nearest is 64"),
    (IndexError("index 3 is\nout of bounds"), "IndexError: index 3 is out of bounds (traceback: "),
    (RuntimeError("CUDA out of memory"), "RuntimeError: CUDA out of memory (traceback: "),
]


@pytest.mark.parametrize(("error", "reason"), BREAKING, ids=lambda value: type(value).__name__)
def test_a_failed_cell_does_not_stop_the_others(
    engine: Engine, config: SweepConfig, error: Exception, reason: str
) -> None:
    def fail(method: str) -> None:
        if method == "fastv":
            raise error

    engine.before = fail
    results = sweep(config)
    assert engine.asked == ["none", "fastv", "fastv", "random", "random", "random", "random"]
    assert [bool(result.reason) for result in results] == [False, True, True, False, False, False, False]
    first, second = failures(results)
    assert first.startswith(f"failed: fastv at 0.5 (pocket, ci): {reason}") and "fastv at 0.76" in second
    if "traceback" in reason:
        file = Path(first.partition("(traceback: ")[2].rstrip(")"))
        assert "in fail" in file.read_text(encoding="utf-8")
    engine.before = lambda method: None
    again = sweep(config)
    assert not failures(again) and engine.asked[7:] == ["fastv", "fastv"]


def test_a_missed_budget_fails_also_when_it_is_found_later(engine: Engine, config: SweepConfig) -> None:
    def one_token_too_many(sample: dict[str, Any]) -> None:
        if (sample["task"], sample["doc_id"], sample["tokens"]["target"]) == ("pocket_pope", 1, 61):
            sample["tokens"]["final"] += 1

    engine.change = one_token_too_many
    small = replace(config, methods=("fastv",))
    first = failures(sweep(small))
    assert len(first) == 1 and "fastv at 0.76 (pocket, ci): the budget was missed on 1 samples" in first[0]
    assert failures(sweep(small)) == first and engine.asked == ["none", "fastv", "fastv"]


def test_an_interruption_keeps_what_was_done(engine: Engine, config: SweepConfig) -> None:
    def stop(method: str) -> None:
        if len(engine.asked) == 3:
            raise KeyboardInterrupt

    engine.before = stop
    with pytest.raises(KeyboardInterrupt):
        sweep(config)
    engine.before = lambda method: None
    results = sweep(config)
    assert [result.kept for result in results] == [True, True, False, False, False, False, False]
    assert len(find_runs(config.out)) == 7 and {read_run(p).status for p in find_runs(config.out)} == {"complete"}


def test_a_folder_that_cannot_be_written_ends_it_at_once(engine: Engine, config: SweepConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot write"):
        sweep(replace(config, out=tmp_path / "file"))
    assert engine.asked == []


def test_the_command_ends_with_a_table_and_its_failures(engine: Engine, tmp_path: Path, capsys: Any) -> None:
    def fail(method: str) -> None:
        if method == "fastv":
            raise BudgetError("out of reach")

    engine.before = fail
    tasks = ("pocket_gqa", "pocket_pope")
    lists = {"methods": ["fastv", "random"], "ratios": [0.5], "tasks": tasks, "seeds": [0, 1]}
    flags = {"limit": 4, "out": tmp_path / "runs"}
    config = sweep_config.load(None, {**lists, **flags})
    assert command(config, lambda document: document.write(sys.stdout)) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(tmp_path / "runs")
    assert printed.out.startswith("pocket, 2 benchmarks") and printed.out.count("benchmarks") == 1, "one table"
    assert "random 0.5" in printed.out and "±" in printed.out and "unpruned" in printed.out
    assert "fastv" not in printed.out
    assert printed.err.splitlines()[-2:] == [
        "failed: fastv at 0.5 (pocket, pocket_gqa, pocket_pope): out of reach",
        "1 of 4 cells failed; the same command tries them again",
    ]
    engine.before = lambda method: None
    assert command(config, lambda document: document.write(sys.stdout)) == 0


def test_models_and_requests_are_loaded_once(engine: Engine, config: SweepConfig, monkeypatch: Any) -> None:
    """One `ModelCache` for all cells; what it shares is tested in test_model_cache.py."""
    seen: list[ModelCache] = []

    def blueprint(shared: ModelCache, run: RunConfig) -> Any:
        seen.append(shared)
        return engine.blueprint(run, load_model)

    monkeypatch.setattr(ModelCache, "blueprint", blueprint)
    sweep(config)
    assert len(set(map(id, seen))) == 1 and len(seen) == 13
