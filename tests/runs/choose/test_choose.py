"""A choice by halving against one by a sweep of everything, and what is said at its end."""

from __future__ import annotations

import io
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from meteor_bench.cli.options import flags
from meteor_bench.config.choose_config import ChooseConfig
from meteor_bench.config.choose_config import load as load_choice
from meteor_bench.config.run_config import RunConfig, load
from meteor_bench.core.errors import BudgetError, ConfigError
from meteor_bench.records.run_folder import find_runs
from meteor_bench.report.document import Document
from meteor_bench.report.standing import Standing, front, standings
from meteor_bench.runs import model_cache
from meteor_bench.runs.choose.command import choose, command
from meteor_bench.runs.choose.goal import Goal
from meteor_bench.runs.choose.halving import search, sizes
from meteor_bench.runs.choose.measure import Candidate, Measurer, candidates, exact_and_untrained
from meteor_bench.runs.single_run import SingleRun
from meteor_bench.runs.sweep import estimate
from tests import synthetic
from tests.runs.choose.problem import METHODS, RATIOS, World

TASKS = tuple(synthetic.GROUPS)[:2]
N = 64


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChooseConfig:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "_check", lambda job: None)
    monkeypatch.setattr(SingleRun, "environment", synthetic.ENVIRONMENT)
    return ChooseConfig(max_drop=5.0, methods=METHODS, ratios=RATIOS, tasks=TASKS, limit=N, out=tmp_path / "runs")


def printer(out: io.StringIO) -> Callable[[Document], None]:
    """Prints as in a terminal."""
    return lambda document: document.write(out)


def world(monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> World:
    made = World(seed)
    monkeypatch.setattr(model_cache, "default", lambda: made)
    return made


@pytest.mark.parametrize(
    ("seed", "goal"),
    [
        (0, {"max_drop": 5.0, "methods": METHODS[:3]}),
        pytest.param(1, {"max_drop": 5.0}, marks=pytest.mark.slow),
        pytest.param(2, {"max_drop": 10.0}, marks=pytest.mark.slow),
        pytest.param(0, {"max_drop": None, "tokens": 128}, marks=pytest.mark.slow),
        pytest.param(1, {"max_drop": None, "min_speedup": 1.5}, marks=pytest.mark.slow),
    ],
)
def test_it_finds_what_a_sweep_of_everything_finds(
    seed: int, goal: dict[str, Any], config: ChooseConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, **goal)
    wanted = Goal.of(config)
    ratios = config.ratios if config.tokens is None else (0.5,)
    every = candidates(config, ratios)

    world(monkeypatch, seed)
    exhaustive = Measurer(replace(config, out=config.out / "all"), wanted.timed)
    whole = exhaustive.measure(every, N)
    # By hand, without the goal's own code.
    if config.max_drop is not None:
        good = {one: s for one, s in whole.items() if -s.low <= config.max_drop}
        best = min(good, key=lambda one: (good[one].flops, -good[one].difference, one.method))
    else:
        best = min(whole, key=lambda one: (-whole[one].difference, whole[one].flops, one.method))

    halved = Measurer(config, wanted.timed)
    found = search(every, N, wanted, halved.measure)
    assert found.chosen is not None and (found.chosen, found.whole[found.chosen]) == (best, whole[best])
    assert set(found.whole) | set(found.left) == set(every) and not set(found.whole) & set(found.left)
    if len(every) > 4:
        assert len(found.whole) < len(every)


def test_each_round_asks_twice_as_many_questions() -> None:
    assert sizes(N) == [16, 32, 64] and sizes(300) == [38, 75, 150, 300] and sizes(10) == [10]


def test_it_says_what_to_do_and_nothing_is_done_twice(config: ChooseConfig, monkeypatch: Any, capsys: Any) -> None:
    made = world(monkeypatch)
    config = replace(config, ratios=RATIOS[:2], methods=METHODS[:3])
    out = io.StringIO()
    assert choose(config, printer(out)) == 0
    text = out.getvalue()
    said = " ".join(text.split())
    assert "recommended: fastv at " in said and "at most 5 asked" in said
    assert "not widened for the choice among 6" in said
    progress = capsys.readouterr().err
    assert "6 candidates; questions of each benchmark by round: 16, 32, 64; about " in progress
    # The YAML and the command are the run that was measured.
    Path("choice.yaml").write_text(text[text.rindex("\nmodel: ") :])
    run = load(Path("choice.yaml"), {})
    assert (run.method, run.tasks, run.limit, run.out) == ("fastv", TASKS, N, config.out)
    assert f"meteor-bench run --model pocket --method fastv --ratio {run.ratio:g} --tasks {','.join(TASKS)}" in text
    # All candidates of a round answer the same questions, each beside the unpruned model.
    rounds = [[c[:2] for c in made.answered if c[2] == size] for size in sizes(N)]
    counts = [len(asked) for asked in rounds if asked]
    assert counts[0] == 7 and counts == sorted(counts, reverse=True)
    assert all(("none", 0.0) in asked for asked in rounds if asked)
    before = len(made.answered), len(find_runs(config.out))
    again = io.StringIO()
    assert choose(config, printer(again)) == 0
    assert (len(made.answered), len(find_runs(config.out))) == before and again.getvalue() == text


@pytest.mark.parametrize("task", ["mine/: red, or green?", "mine/", "a,b.jsonl"])
def test_the_command_names_questions_of_ones_own_so_that_it_runs(
    config: ChooseConfig, task: str, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    words = shlex.split(command(replace(config, tasks=(task,)), standing(0, 0, 0)))
    found: list[dict[str, Any]] = []

    @flags(RunConfig)
    def kept(said: dict[str, Any]) -> None:
        found.append(said)

    app = typer.Typer()
    app.command()(kept)
    assert words[:2] == ["meteor-bench", "run"]
    app(words[2:], standalone_mode=False)
    assert found[0]["tasks"] == [task] and (found[0]["method"], found[0]["ratio"]) == ("fastv", 0.5)


@pytest.mark.parametrize("size", [1, 30])
def test_a_number_that_is_not_there_is_not_printed(size: int) -> None:
    nowhere = math.nan if size == 1 else 0.0
    told = Goal("max_drop", 1.0).told(standing(0.0, nowhere, nowhere))
    interval = "no interval, too few pictures" if size == 1 else "95 % interval 0.0 to 0.0"
    assert told.startswith(f"it loses 0.0 points ({interval}; at most 1 asked)")


def standing(difference: float, low: float, high: float) -> Standing:
    """Of fastv at a half."""
    return Standing("fastv", 0.5, 3, difference, low, high, 128, 256, 1e9, 2e9)


def test_where_nothing_qualifies_the_nearest_is_named(config: ChooseConfig, monkeypatch: Any) -> None:
    world(monkeypatch)
    out = io.StringIO()
    assert choose(replace(config, max_drop=0.0, methods=METHODS[:2], ratios=(0.76, 0.889)), printer(out)) == 1
    said = " ".join(out.getvalue().split())
    assert "nothing qualifies; the nearest is fastv at 0.76" in said and "meteor-bench run" not in said


@pytest.mark.parametrize(
    ("bound", "reaches", "needed"),
    [
        (5.0, (30.0, 20.0), 64),  # 4 questions, 20 points: a quarter of the width wants 16 times as many
        (10.0, (20.0,), 16),
        (20.0, (20.0, 30.0), None),
        (5.0, (0.0, 20.0), 64),  # no width: every answer alike
        (5.0, (0.0, math.nan), None),
        (0.0, (20.0,), None),  # no number of questions would do
    ],
)
def test_too_few_questions_for_a_bound_are_said(bound: float, reaches: tuple[float, ...], needed: int | None) -> None:
    every = [replace(standing(-3.0, -3.0 - reach, -3.0 + reach), n=4) for reach in reaches]
    said = Goal("max_drop", bound).blurred(every)
    if needed is None:
        assert said == ""
        return
    # By hand: one that loses nothing, with the narrowest of these intervals.
    assert not Goal("max_drop", bound).qualifies(standing(0.0, -20.0, 20.0))
    assert said.startswith("Too few questions for that bound: on 4 the narrowest interval ends 20.0 points above the ")
    assert f"would miss {bound:g}, too." in said and said.endswith(f" it takes about {needed} questions.")
    assert Goal("tokens", 3.0).blurred(every) == ""


def test_a_choice_on_few_questions_says_so(config: ChooseConfig, monkeypatch: Any) -> None:
    world(monkeypatch)
    asked = replace(config, limit=16, ratios=(0.76, 0.889), methods=("random",))
    for bound, few in ((2.0, True), (30.0, False)):
        out = io.StringIO()
        assert choose(replace(asked, max_drop=bound), printer(out)) == 1
        said = " ".join(out.getvalue().split())
        assert "nothing qualifies" in said and ("Too few questions for that bound: on 32 " in said) == few


def test_what_cannot_run_is_left_out_and_what_fails_is_said(
    config: ChooseConfig, monkeypatch: Any, capsys: Any
) -> None:
    def check(job: Any) -> None:
        if job.main.config.method == "uniform":
            raise BudgetError("it cannot be reached")

    monkeypatch.setattr(estimate, "_check", check)
    made = world(monkeypatch)

    def fail(method: str) -> None:
        if method == "divprune":
            raise BudgetError("this neither")

    made.before = fail
    assert choose(replace(config, ratios=(0.25, 0.5)), printer(io.StringIO())) == 1
    told = capsys.readouterr().err
    assert "left out: uniform at 0.25: it cannot be reached" in told and "6 candidates" in told
    assert "failed: divprune at 0.5: this neither" in told
    assert {method for method, *_ in made.answered} == {"none", "fastv", "random"}


@pytest.mark.slow
def test_tokens_are_a_ratio_of_what_the_model_reads(config: ChooseConfig, monkeypatch: Any) -> None:
    world(monkeypatch)
    out = io.StringIO()
    assert choose(replace(config, max_drop=None, tokens=64), printer(out)) == 0
    assert "keeps 64 of 256 visual tokens" in " ".join(out.getvalue().split())
    with pytest.raises(ConfigError, match="the unpruned model reads 256 visual tokens; name fewer"):
        choose(replace(config, max_drop=None, tokens=256), printer(out))


def test_a_dry_run_answers_nothing(config: ChooseConfig, monkeypatch: Any, capsys: Any) -> None:
    world(monkeypatch)
    assert choose(config, printer(io.StringIO()), dry_run=True) == 0
    assert not config.out.exists() or not list(config.out.glob("*/run.json"))
    assert "16 candidates" in capsys.readouterr().err


def test_those_that_left_come_back_where_no_finalist_qualifies() -> None:
    """Cheap ones look fine on few questions and are not; the dear one that was left is the answer."""
    truth = {f"c{i}": 9.0 for i in range(11)} | {"dear": 0.5}

    def measure(names: Any, size: int) -> dict[str, Standing]:
        lost = {name: truth[name] if size == 64 else 0.5 for name in names}
        cost = {name: 99.0 if name == "dear" else float(name[1:]) for name in names}
        return {n: Standing(n, 0.5, size, -lost[n], -lost[n] - 0.4, -lost[n] + 0.4, 1, 2, cost[n], 100) for n in names}

    found = search(list(truth), 64, Goal("max_drop", 1.0), measure)
    assert found.chosen == "dear" and not found.left


def test_the_front_holds_what_nothing_beats() -> None:
    def one(name: str, lost: float, flops: float) -> Standing:
        return Standing(name, 0.5, 1, -lost, -lost, -lost, 1, 2, flops, 9)

    every = [one("a", 1, 5), one("b", 2, 4), one("c", 2, 6), one("d", 1, 5), one("e", 3, 4)]
    assert [s.method for s in front(every)] == ["a", "b", "d"]


def test_the_default_candidates_need_no_training_and_keep_their_budget() -> None:
    from meteor_bench.report.listing import methods

    rows = {row["name"]: row for row in methods()}
    names = exact_and_untrained()
    assert set(names) == {n for n, r in rows.items() if n != "none" and r["budget"] == "exact" and not r["trained"]}
    assert {"fastv", "random"} <= set(names) and not {"meteor", "oc-vtp", "none"} & set(names)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "say what to choose for: one of --max-drop, --min-speedup and --tokens; found none"),
        ({"max_drop": 1.0, "tokens": 3}, "found --max-drop and --tokens"),
        ({"min_speedup": 1.0}, "--min-speedup: "),
        ({"max_drop": -1.0}, "--max-drop: "),
        ({"max_drop": 1.0, "methods": ["none"]}, "--method none prunes nothing"),
        ({"max_drop": 1.0, "methods": ["fastw"]}, "did you mean 'fastv'"),
        ({"max_drop": 1.0, "ratios": [0.0]}, "--ratios: name fractions above 0"),
    ],
)
def test_a_wrong_setting_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_choice(given)
    assert said in str(error.value)


def test_standings_are_those_of_the_tables(config: ChooseConfig, monkeypatch: Any) -> None:
    world(monkeypatch)
    run = Measurer(config, False)
    (one,) = run.measure([Candidate("fastv", 0.5)], 20).values()
    (path,) = [path for path in find_runs(config.out) if "-fastv-" in path.name]
    assert standings([path]) == {path: one}
    assert (one.n, one.tokens, one.unpruned_tokens) == (40, 128, 256)
    assert (one.flops, one.unpruned_flops) == (3e9, 5e9)
    assert one.low <= one.difference <= one.high
