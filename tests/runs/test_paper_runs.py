"""The plan of a paper: exactly the runs that are missing; and doing them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench import cli
from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.reader import read_run
from meteor_bench.records.run_folder import find_runs
from meteor_bench.report.paper.layout import Filled
from meteor_bench.runs.paper import Request
from meteor_bench.runs.sweep import estimate
from tests import synthetic

ROOT = Path(__file__).parents[2]
Fill = Callable[..., tuple[Request, list[Filled]]]


def settings(request: Request) -> set[tuple[Any, ...]]:
    return {(n.run.method, n.run.ratio, str(n.run.parameters), n.run.seed) for n in request.missing()}


def test_exactly_the_missing_runs(fill: Fill) -> None:
    """Once, though two tables show it; with the tables' benchmarks and the user's settings."""
    request, _ = fill()
    assert settings(request) == {("fastv", 0.5, "{}", 0), ("fastv", 0.5, "{'layer': 1}", 0)}
    both, _ = request.missing()
    assert both.tables == ("main", "other") and both.run.model == "pocket"
    assert both.run.tasks == ("pocket_scienceqa", "pocket_gqa", "pocket_pope", "pocket_textvqa")
    one = replace(request, table="other", base=replace(request.base, batch_size=3))
    assert [(n.tables, n.run.batch_size) for n in one.missing()] == [(("other",), 3)] * 2


def test_everything_is_missing_from_an_empty_folder(fill: Fill, tmp_path: Path) -> None:
    """The unpruned model first; three seeds of what draws; nothing for a row that cannot be run."""
    request, _ = fill()
    request = replace(request, base=RunConfig(out=tmp_path / "nothing"))
    assert settings(request) == {
        ("none", 0.0, "{}", 0),
        ("meteor", 0.76, "{}", 0),
        ("meteor", 0.5, "{}", 0),
        ("fastv", 0.5, "{}", 0),
        ("fastv", 0.5, "{'layer': 1}", 0),
        *(("random", 0.76, "{}", seed) for seed in range(3)),
    }
    assert request.missing()[0].run.method == "none"


def test_what_has_fewer_questions_seeds_or_benchmarks_is_missing(fill: Fill, tmp_path: Path) -> None:
    request, _ = fill()
    few = RunConfig(out=tmp_path / "few")
    synthetic.write(replace(few, limit=4), n=4)
    assert ("none", 0.0, "{}", 0) in settings(replace(request, base=few))
    assert ("none", 0.0, "{}", 0) not in settings(replace(request, base=replace(few, limit=4)))
    other = RunConfig(out=tmp_path / "other")
    synthetic.write(other, rows=synthetic.samples(other)[:40])
    assert ("none", 0.0, "{}", 0) in settings(replace(request, base=other)), "one benchmark of four"
    seeds = RunConfig(out=tmp_path / "seeds")
    synthetic.write(replace(seeds, method="random", ratio=0.76, seed=1))
    found = settings(replace(request, base=seeds))
    assert {seed for method, *_, seed in found if method == "random"} == {0, 2}


def test_the_shipped_records_serve_the_papers() -> None:
    """The committed reference has METEOR's main row, so no plan asks for it again."""
    folder = Path(__file__).parents[2] / "results" / "reference" / "pocket"
    wanted = settings(Request("meteor", RunConfig(out=folder), "main"))
    assert ("meteor", 0.76, "{}", 0) not in wanted and ("none", 0.0, "{}", 0) not in wanted
    assert ("sparsevlm", 0.75, "{}", 0) in wanted
    wanted = settings(Request("evoprune", RunConfig(out=folder), "image"))
    assert ("evoprune", 0.7778, "{}", 0) in wanted
    assert ("evoprune", 0.8889, "{}", 0) not in wanted, "it was run at 0.889, which leaves as many tokens"


def test_the_plan_is_printed_with_times(fill: Fill, jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_check", lambda job: None)  # it asks an engine, which these jobs lack
    request, _ = fill()
    out = io.StringIO()
    assert request.print_plan(out) == 0
    lines = out.getvalue().splitlines()
    assert lines[0].split()[0] == "cell" and {line.split()[0] for line in lines if line.startswith("fastv")} == {
        "fastv",
        "fastv(layer=1)",
    }
    assert lines[-1].startswith("2 cells, 0 finished, 0 impossible; about ")


def test_the_missing_runs_are_done_and_then_nothing_is_missing(fill: Fill, jobs: Any, tmp_path: Path) -> None:
    request, _ = fill()
    request = replace(request, base=RunConfig(out=tmp_path / "runs", limit=6), table="other")
    assert request.run_missing() == 0
    done = {(read_run(p).config.method, str(read_run(p).config.parameters)) for p in find_runs(request.base.out)}
    assert done == {("none", "{}"), ("fastv", "{}"), ("fastv", "{'layer': 1}")}
    assert request.missing() == [] and request.run_missing() == 0
    out = io.StringIO()
    assert request.print_plan(out) == 0 and out.getvalue().startswith("nothing is missing")


def test_a_run_that_fails_does_not_stop_the_others(
    fill: Fill, jobs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(method: str) -> None:
        if method == "meteor":
            raise RuntimeError("out of luck")

    jobs.before = stop
    request, _ = fill()
    request = replace(request, base=RunConfig(out=tmp_path / "runs", limit=6))
    assert request.run_missing() == 1
    assert {run.split("-")[2] for run in (p.name for p in find_runs(request.base.out))} >= {"fastv", "random"}
    assert "2 of 8 runs failed" in capsys.readouterr().err
    assert {method for method, *_ in settings(request)} == {"meteor"}


@pytest.mark.slow
def test_the_missing_runs_are_done_by_the_command(tmp_path: Path) -> None:
    """The shipped model: nothing there, the plan, the runs, their table beside the paper's, and nothing left to do."""

    def call(*arguments: str) -> tuple[int, str, str]:
        asked = ["paper", "meteor", "--table", "claims", "--limit", "2", "--out", "runs", "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "meteor_bench", *asked, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    code, planned, err = call("--plan")
    assert code == 0 and planned.splitlines()[-1].startswith("2 cells, 0 finished, 0 impossible; about "), err
    assert [line.split("  ")[0] for line in planned.splitlines()[1:3]] == ["unpruned", "meteor at 0.76"]
    assert not (tmp_path / "runs").exists()
    code, tables, err = call("--run", "--format", "json")
    assert code == 0, err
    made = {(r.config.method, r.config.ratio): r for r in map(read_run, find_runs(tmp_path / "runs"))}
    assert set(made) == {("none", 0.0), ("meteor", 0.76)}
    document = json.loads(tables)
    claims = document["tables"]["claims"]
    assert document["model"] == "pocket" and claims["same_model"] is False and claims["baseline"] == "not compared"
    numbers = {(n["origin"], n["column"]): n for n in claims["numbers"]}
    assert numbers["reported", "saved"]["value"] == 49 and numbers["reported", "saved"]["confidence"] == "secondary"
    ours, theirs = (
        sum(v for k, v in made[key].flops.items() if k != "decode") for key in (("meteor", 0.76), ("none", 0.0))
    )
    assert numbers["measured", "saved"]["value"] == pytest.approx(100 * (1 - ours / theirs), rel=1e-5)
    assert numbers["measured", "saved"]["model"] == "pocket" and "Eagle-X4" in numbers["reported", "saved"]["model"]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*")}
    code, again, err = call("--run", "--format", "json")
    assert (code, again, err) == (0, tables, "") and before == {p: p.stat().st_mtime_ns for p in before}
    assert call("--plan")[1].startswith("nothing is missing: runs holds every run that meteor claims needs here")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("paper metor", "unknown paper 'metor'; did you mean 'meteor'?"),
        ("paper meteor --table mian", "unknown table of meteor 'mian'; did you mean 'main'?"),
        ("paper meteor --model pokcet", "unknown model 'pokcet'; did you mean 'pocket'?"),
        ("paper meteor --limit 0", "--limit: expected a whole number, 1 or more, found 0"),
        ("paper meteor --format pdf", "Invalid value for '--format'"),
        ("paper", "Missing argument 'PAPER'"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["meteor-bench", *arguments.split()])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    err = capsys.readouterr().err
    assert exit.value.code == 2 and message in err and err.count("\n") == 1
