"""The course of a job with a fake engine: what is run, what is taken from disk, what is left after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import BudgetError
from meteor_bench.engine.load_model import load_model
from meteor_bench.records.reader import read_latency, read_run, read_samples
from meteor_bench.records.run_folder import find_runs
from meteor_bench.records.schema import LatencySample
from meteor_bench.runs.job import execute, prepare
from meteor_bench.runs.single_run import SingleRun
from tests import fake_job
from tests.fake_job import Engine

FASTV = RunConfig(method="fastv", ratio=0.76, tasks=("pocket_gqa", "pocket_pope"), limit=6)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return fake_job.install(monkeypatch)


def part(config: RunConfig) -> SingleRun:
    return SingleRun(config, Engine().blueprint(config, load_model))


def test_both_runs_leave_complete_records(engine: Engine, tmp_path: Path) -> None:
    outcome = execute(replace(FASTV, out=tmp_path))
    assert engine.asked == ["none", "fastv"] and outcome.missed == 0
    unpruned, pruned = sorted(find_runs(tmp_path), key=lambda p: "fastv" in p.name)
    assert outcome.path == pruned
    assert read_run(pruned).baseline == read_run(unpruned).fingerprint and read_run(unpruned).baseline is None
    assert [s.session for s in read_latency(pruned)] == ["unpruned"] * 3 + ["run"] * 3
    assert [s.session for s in read_latency(unpruned)] == ["run"] * 3
    for path in (unpruned, pruned):
        record = read_run(path)
        assert record.status == "complete" and record.finished and "answers" in record.seconds
        assert [t.task for t in record.tasks] == list(FASTV.tasks)
        assert len(read_samples(path)) == 12
        assert {p.suffix for p in path.glob("report.*")} == {".md", ".csv", ".json"}


def test_the_unpruned_record_is_used_again(engine: Engine, tmp_path: Path) -> None:
    config = replace(FASTV, out=tmp_path)
    execute(config)
    execute(replace(config, method="random", ratio=0.5, seed=3, batch_size=7))
    assert engine.asked == ["none", "fastv", "random"]
    execute(replace(config, limit=4))
    assert engine.asked[3:] == ["none", "fastv"], "other questions need another unpruned run"


def test_without_a_baseline(engine: Engine, tmp_path: Path) -> None:
    outcome = execute(replace(FASTV, out=tmp_path, baseline=False))
    assert engine.asked == ["fastv"] and read_run(outcome.path).baseline is None
    assert {s.session for s in read_latency(outcome.path)} == {"run"}


def test_an_unpruned_run_alone(engine: Engine, tmp_path: Path) -> None:
    execute(replace(FASTV.unpruned(), out=tmp_path))
    assert engine.asked == ["none"]


def test_a_missed_budget_is_reported(engine: Engine, tmp_path: Path) -> None:
    def one_token_too_many(sample: dict[str, Any]) -> None:
        if (sample["task"], sample["doc_id"]) == ("pocket_pope", 4):
            sample["tokens"]["final"] += 1

    engine.change = one_token_too_many
    outcome = execute(replace(FASTV, out=tmp_path, baseline=False))
    assert (outcome.missed, outcome.example) == (1, "pocket_pope/4: 62 tokens instead of 61")
    tokens = read_run(outcome.path).tokens
    assert tokens is not None and tokens.missed == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BudgetError("32 tokens cannot be reached")])
def test_what_was_done_before_an_interruption_is_kept(engine: Engine, tmp_path: Path, error: BaseException) -> None:
    def stop(method: str) -> None:
        if method == "fastv":
            raise error

    engine.before = stop
    config = replace(FASTV, out=tmp_path)
    with pytest.raises(type(error)):
        execute(config)
    state = {path.name.split("-")[2]: read_run(path).status for path in find_runs(tmp_path)}
    assert state == {"none": "complete", "fastv": "partial"}
    engine.before = lambda method: None
    outcome = execute(config)
    assert engine.asked == ["none", "fastv", "fastv"]
    assert len(find_runs(tmp_path)) == 2 and read_run(outcome.path).status == "complete"


def test_a_run_that_was_not_timed_is_not_complete(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(names: object) -> list[LatencySample]:
        raise KeyboardInterrupt

    config = replace(FASTV, out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_times", stop)
        with pytest.raises(KeyboardInterrupt):
            execute(config)
    assert execute(config).path in find_runs(tmp_path) and len(find_runs(tmp_path)) == 2


def test_the_fingerprint_knows_what_can_change_an_answer(engine: Engine) -> None:
    base = part(FASTV).fingerprint
    same = [{"batch_size": 1}, {"out": Path("elsewhere")}, {"baseline": False}]
    other = [
        {"method": "random"},
        {"ratio": 0.5},
        {"seed": 1},
        {"limit": 7},
        {"tasks": ("pocket_gqa",)},
        {"parameters": {"layer": 3}},
    ]
    for change in same:
        config = replace(FASTV, **change)
        assert part(config).fingerprint == base, change
    prints = {part(c).fingerprint for c in (replace(FASTV, **change) for change in other)}
    assert len(prints) == len(other) and base not in prints


def test_below_float32_the_fingerprint_knows_how_questions_are_batched(engine: Engine) -> None:
    """In float32 a batch equals its rows run alone; below, answers flip with its shape (docs/LOG.md)."""
    changes = [{}, {"batch_size": 1}, {"reuse": False}, {"deterministic": True}]
    assert len({part(replace(FASTV, **change)).fingerprint for change in changes}) == 1
    below = [part(replace(FASTV, dtype="bfloat16", **change)).fingerprint for change in changes]
    assert len(set(below)) == len(changes)
    alone = replace(FASTV, dtype="bfloat16", deterministic=True)
    assert part(replace(alone, batch_size=1, reuse=False)).fingerprint == part(alone).fingerprint


def test_a_finished_job_is_known(engine: Engine, tmp_path: Path) -> None:
    config = replace(FASTV, out=tmp_path)
    assert prepare(config).finished() is None
    path = execute(config).path
    assert prepare(config).finished() == path
    (path / "latency.jsonl").unlink()
    assert prepare(config).finished() is None, "it was not timed"
    assert prepare(config).finished(timed=False) == path


def test_a_run_without_timing_or_tables(engine: Engine, tmp_path: Path) -> None:
    config = replace(FASTV, out=tmp_path)
    path = execute(config, timed=False, tables=False).path
    assert read_latency(path) == [] and not list(tmp_path.glob("*/report.*"))
    assert read_run(path).status == "complete" and (read_run(path).peak_memory or 0) > 2**24


def test_a_run_that_is_timed_later_goes_on_in_its_folder(engine: Engine, tmp_path: Path) -> None:
    config = replace(FASTV, out=tmp_path)
    path = execute(config, timed=False).path
    assert execute(config).path == path and len(read_latency(path)) == 6
    assert len(find_runs(tmp_path)) == 2
