"""--format, --json and --quiet: what is printed where, the same for every command that has them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.reader import read_run
from meteor_bench.records.run_folder import find_runs
from meteor_bench.runs.single_run import SingleRun
from tests import fake_job, synthetic
from tests.commands import Result

ON = ["--tasks", "pocket_gqa,pocket_pope", "--limit", "6", "--out", "runs"]
RUN = ["run", "--method", "fastv", "--ratio", "0.76", *ON]
SWEEP = ["sweep", "--methods", "fastv,random", "--ratios", "0.5", "--seeds", "0", *ON]


@pytest.fixture
def said(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command whose runs are made up."""
    fake_job.install(monkeypatch)
    monkeypatch.setattr(SingleRun, "environment", synthetic.ENVIRONMENT)
    return call


def test_a_run_ends_with_three_sentences_above_its_tables(said: Callable[..., Result]) -> None:
    done = said(*RUN)
    lines = done.out.splitlines()
    assert done.code == 0 and lines[0].startswith("Accuracy: ") and Path(lines[-1], "run.json").is_file()
    sentences, _, tables = done.out.partition("\n\n")
    assert [s for s in ("Accuracy: ", "Tokens: ", "Cost: ") if f"\n{s}" in f"\n{sentences}"] == [
        "Accuracy: ",
        "Tokens: ",
        "Cost: ",
    ]
    assert tables.startswith("Accuracy: pocket, fastv at ratio 0.76\n")
    assert max(map(len, lines[:-1])) <= 80
    assert "fastv at ratio 0.76: done in " in done.err and " questions/s" in done.err


@pytest.mark.parametrize("command", [RUN, SWEEP], ids=["run", "sweep"])
def test_quietly_only_the_folder_is_named(said: Callable[..., Result], command: list[str]) -> None:
    done = said(*command, "--quiet")
    (line,) = done.out.splitlines()
    assert done.code == 0 and done.err == ""
    assert Path(line).is_dir() and find_runs(Path(line))


def test_quietly_what_went_wrong_is_said(said: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake_job.install(monkeypatch)

    def one_token_too_many(sample: dict[str, Any]) -> None:
        if (sample["task"], sample["doc_id"]) == ("pocket_pope", 4):
            sample["tokens"]["final"] += 1

    engine.change = one_token_too_many
    done = said(*RUN, "--quiet", "--no-baseline")
    assert done.code == 1 and len(done.out.splitlines()) == 1
    assert done.err == "error: the budget was missed on 1 samples, say pocket_pope/4: 62 tokens instead of 61\n"
    failed = said(*SWEEP, "--quiet")
    assert failed.code == 1 and failed.out == "runs\n"
    assert "failed: fastv at 0.5 (pocket, " in failed.err and "2 of 3 cells failed" in failed.err


def test_json_is_one_document_and_nothing_else(said: Callable[..., Result]) -> None:
    done = said(*RUN, "--json")
    told = json.loads(done.out)
    folder = Path(told["folder"])
    record = read_run(folder)
    assert "fastv at ratio 0.76: done" in done.err
    assert told["run"]["n"] == 12 and told["run"]["tokens"] == record.tokens.final.mean == 61  # type: ignore[union-attr]
    scores = [task.score for task in record.tasks]
    assert told["run"]["score"] == pytest.approx(sum(scores) / 2, abs=1e-3)
    assert told["run"]["removed_tokens"] == pytest.approx(1 - 61 / 256, abs=1e-5)
    assert told["run"]["speedup"] == pytest.approx(2, rel=1e-3)
    assert {"accuracy", "tokens", "latency"} == told["tables"].keys() and len(told["runs"]) == 1
    assert said(*RUN, "--format", "json").out == done.out

    swept = json.loads(said(*SWEEP, "--json").out)
    assert swept["folder"] == "runs" and swept["failed"] == [] and len(swept["runs"]) == 3


def test_every_other_command_of_tables_has_it_too(said: Callable[..., Result]) -> None:
    said(*RUN, "--quiet")
    said(*RUN, "--seed", "1", "--method", "random", "--quiet")
    runs = [str(path) for path in find_runs(Path("runs")) if read_run(path).config.method != "none"]
    assert json.loads(said("report", "runs", "--json").out)["tables"]["accuracy"]
    assert json.loads(said("compare", *runs, "--json").out)["tables"]["comparison"]
    assert json.loads(said("paper", "meteor", "--json").out)


def test_two_formats_are_one_mistake(call: Callable[..., Result]) -> None:
    done = call("report", ".", "--json", "--format", "csv")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("--format csv and --json ask for different things; give one\n")
    assert call("run", "--dry-run", "--json").err.endswith(
        "--dry-run prints lines, not tables; leave out --format and --json\n"
    )


@pytest.mark.parametrize("what", ["methods", "models", "tasks"])
def test_lists_fit_80_columns(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("list", what).out.splitlines()
    assert len(lines) > 10 and max(map(len, lines)) <= 80


def test_tables_fit_80_columns(call: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    paths = list(synthetic.reference(tmp_path / "runs").values())
    own = RunConfig(method="meteor", ratio=0.889, parameters={"weight": 0.25, "temperature": 10}, out=tmp_path / "runs")
    synthetic.write(replace(own, suite="pocket11"))
    for arguments in (["report", "runs"], ["report", "runs", "--sub-scores"], ["compare", *map(str, paths[:2])]):
        lines = call(*arguments).out.splitlines()
        assert lines and max(map(len, lines)) <= 80, max(lines, key=len)


SILENT = """
import io, sys
from meteor_bench import cli
for name in ("torch", "lmms_eval"):
    sys.modules[name] = None  # what takes long to import cannot be imported
for command in {commands!r}:
    sys.argv, sys.stderr = ["meteor-bench", *command.split()], io.StringIO()
    try:
        cli.main()
    except BaseException as error:
        told = sys.stderr.getvalue()
    print(told.partition("\\n")[0])
"""


def test_a_line_is_said_before_anything_that_takes_long(tmp_path: Path) -> None:
    """Importing torch and lmms-eval takes ten seconds, in which nobody should wonder what goes on."""
    commands = [
        "run --method fastv --ratio 0.5",
        "run --method fastv --ratio 0.5 --dry-run",
        "sweep --methods fastv --ratios 0.5",
        "sweep --methods fastv --ratios 0.5 --dry-run",
        "choose --max-drop 1",
        "latency --methods fastv --ratio 0.5",
        "show pocket_gqa/1 --method fastv --ratio 0.5",
        "check --baseline there.yaml --update",
    ]
    done = subprocess.run(
        [sys.executable, "-c", SILENT.format(commands=commands)], cwd=tmp_path, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(commands), done.stderr
    assert not [(command, line) for command, line in zip(commands, lines, strict=True) if "loading lib" not in line]
