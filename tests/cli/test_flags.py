"""Every flag of every command reaches what the command does; a new one cannot be forgotten here or there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from meteor_bench.cli import app as application
from meteor_bench.config.choose_config import GOALS, ChooseConfig
from meteor_bench.config.latency_config import LatencyConfig
from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.spec import options
from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.config.yaml_settings import once, parameter
from meteor_bench.core.errors import ConfigError
from tests.cli.flags import GROUPS, OF_LATENCY, OF_RUN, OF_SWEEP, commands

# Field of a config -> what is said, and what that is; never the default.

Said = Callable[..., Any]
STOP = object()  # what a stand-in gives that ends the command


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], list[Any]]:
    """Stands in for what a command calls; keeps what it was called with."""

    def stand_in(target: str, gives: Any = None) -> list[Any]:
        calls: list[Any] = []

        def body(*args: Any, **named: Any) -> Any:
            calls.append((args, named))
            if gives is STOP:
                raise typer.Exit
            return gives

        monkeypatch.setattr(target, body)
        return calls

    return stand_in


def _all(kind: type, table: dict[str, tuple[list[str], Any]]) -> tuple[list[str], dict[str, Any]]:
    """What is said and what it means, for each field of a config that has a flag."""
    named = list(options(kind))
    return [part for name in named for part in table[name][0]], {name: table[name][1] for name in named}


@pytest.mark.parametrize(
    ("command", "kind", "table", "target"),
    [
        ("run", RunConfig, OF_RUN, "meteor_bench.cli.run._run"),
        ("sweep", SweepConfig, OF_SWEEP, "meteor_bench.runs.sweep.command.sweep"),
        ("latency", LatencyConfig, OF_LATENCY, "meteor_bench.runs.latency.options.settings"),
    ],
)
def test_every_field_has_a_flag_that_reaches_it(
    call: Said, caught: Any, command: str, kind: type, table: dict[str, Any], target: str
) -> None:
    assert {f.name for f in fields(kind)} == set(options(kind))  # a new field has a flag
    calls = caught(target, STOP)
    said, meant = _all(kind, table)
    call(command, *said)
    ((config, *_), _), *_ = calls
    assert {name: getattr(config, name) for name in meant} == meant
    assert all(value != getattr(kind(), name) for name, value in meant.items())  # each was said


RUN_OF_CHECK = ("suite", "tasks", "model", "ratio", "match", "limit", "device", "data_root")
RUN_OF_SHOW = ("model", "source", "match", "stages", "positions", "device", "dtype", "seed", "data_root", "frames")
RUN_OF_PAPER = ("out", "limit", "batch_size", "device")


def _said(names: tuple[str, ...]) -> list[str]:
    return [part for name in names for part in OF_RUN[name][0]]


PRINTED = {"format", "json"}  # of every command that prints tables
LOUD = {*PRINTED, "quiet"}  # and of those that say what they are doing
# What is left besides the flags of configs: command -> its own flags, as tests below say them.
OWN = {
    "run": {"config", "data", "ask", "dry_run", "online", *LOUD},
    "sweep": {"file", "data", "ask", "dry_run", "online", *LOUD},
    "latency": {"param", *LOUD},
    "choose": {"data", "ask", "dry_run", "online", *LOUD},
    "report": {"runs", *PRINTED, "html", "pictures", "sub_scores", "methods", "top", "by"},
    "compare": {"a", "b", "samples", "pictures", "most", *PRINTED},
    "show": {"sample", "method", "ratio", "param", "out"},
    "paper": {"name", "table", "model", *PRINTED, "plan", "run"},
    "check": {"baseline", "data", "ask", "methods", "update", "junit", *LOUD},
    "doctor": {"full", "json", "model", "source", "device", "dtype"},
    "list methods": {"json"},
    "list models": {"json"},
    "list tasks": {"json", "suite"},
    "data fetch": {"root", "suite", "task"},
    "data check": {"root", "suite", "task", "json"},
}
SHARED = {
    "run": set(options(RunConfig)),
    "sweep": set(options(SweepConfig)),
    "choose": set(options(ChooseConfig)),
    "latency": set(options(LatencyConfig)),
    "show": set(RUN_OF_SHOW),
    "paper": set(RUN_OF_PAPER),
    "check": set(RUN_OF_CHECK),
    "compare": {"data_root"},
}


def test_no_flag_is_left_out_here() -> None:
    found = {name: {p.name for p in made.params} for name, made in commands().items()}
    assert found == {name: own | SHARED.get(name, set()) for name, own in OWN.items()}


def test_the_help_of_a_command_begins_as_the_list_of_commands_says() -> None:
    for name in application.COMMANDS:
        made = typer.main.get_command(application._module(name).app)
        first = (made.help or "").partition("\n\n")[0]
        assert " ".join(first.split()) == application.COMMANDS[name]


def test_own_flags_of_run_and_sweep(call: Said, caught: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    Path("run.yaml").write_text("limit: 3\n", encoding="utf-8")
    Path("sweep.yaml").write_text("limit: 3\nmethods: fastv\nratios: [0.5]\n", encoding="utf-8")
    planned, online = caught("meteor_bench.cli.run._plan"), caught("meteor_bench.cli.run.go_online")
    call("run", "--config", "run.yaml", "--dry-run", "--online")
    assert planned == [((RunConfig(limit=3),), {})] and online
    swept, online = caught("meteor_bench.runs.sweep.command.plan", 0), caught("meteor_bench.cli.sweep.go_online")
    call("sweep", "sweep.yaml", "--dry-run", "--online")
    ((config,), _) = swept[0]
    assert (config.limit, config.methods, config.ratios) == (3, ("fastv",), (0.5,)) and online


@pytest.mark.parametrize("goal", GOALS)
def test_choose(call: Said, caught: Any, goal: str) -> None:
    assert {f.name for f in fields(ChooseConfig)} == set(options(ChooseConfig))
    chosen = caught("meteor_bench.runs.choose.command.choose", STOP)
    table = {**OF_RUN, "methods": (["--method", "fastv,random"], ("fastv", "random"))}
    table |= {"ratios": (["--ratios", "0.5,0.25"], (0.5, 0.25)), goal: ([f"--{goal.replace('_', '-')}", "2"], 2)}
    names = [name for name in options(ChooseConfig) if name == goal or name not in GOALS]
    call("choose", *[part for name in names for part in table[name][0]], "--dry-run")
    ((config, _), named), *_ = chosen
    assert {name: getattr(config, name) for name in names} == {name: table[name][1] for name in names}
    assert named == {"dry_run": True}


def test_data_stands_in_place_of_benchmarks(call: Said, caught: Any) -> None:
    Path("sub").mkdir()
    Image.new("RGB", (2, 2)).save("sub/a.png")
    Path("sub/my.jsonl").write_text('{"image": "a.png", "question": "what", "answer": "nothing"}')
    ran = caught("meteor_bench.cli.run._run", STOP)
    call("run", "--data", "sub/my.jsonl")
    assert ran[0][0][0].tasks == ("sub/my.jsonl",)
    call("run", "--data", "sub")
    call("run", "--data", "sub", "--ask", "what, where")
    assert [run[0][0].tasks for run in ran[1:]] == [("sub/",), ("sub/: what, where",)]


def test_latency(call: Said, caught: Any) -> None:
    timed = caught("meteor_bench.runs.latency.command.time_cells", [])
    printed = caught("meteor_bench.report.document.Document.write")
    call("latency", "--methods", "fastv", "--param", "fastv:layer=3", "--format", "json", "--out", "there")
    assert timed[0][0][0].configs[0].parameters == {"layer": 3} and timed[0][0][0].out == Path("there")
    assert printed[0][0][-1] == "json"


def test_report(call: Said, caught: Any) -> None:
    written = caught("meteor_bench.cli.report._write_html")
    call("report", "a", "--html", "x.html", "--pictures", "3", "--methods", "fastv,tome", "--top", "2", "--by", "year")
    (((*said, choose), _),) = written
    assert said == [[Path("a")], Path("x.html"), 3]
    only, top, grouped = (caught(f"meteor_bench.report.choice.{name}", name) for name in ("only", "top", "grouped"))
    assert choose("cells") == "grouped"
    assert (only, top) == ([(("cells", ["fastv", "tome"]), {})], [(("only", 2), {})])
    assert grouped == [(("top", "year"), {})]
    loaded = caught("meteor_bench.report.runs.load", [])
    printed = caught("meteor_bench.report.document.Document.write")
    call("report", "a", "b", "--format", "csv")
    assert loaded == [((Path("a"), Path("b")), {})] and printed.pop()[0][-1] == "csv"
    call("report", "a", "--sub-scores", "--format", "csv")
    assert printed[0][0][-1] == "csv"


def test_compare(call: Said, caught: Any) -> None:
    compared = caught("meteor_bench.cli.compare.run")
    call("compare", "a", "b", "--samples", "--pictures", "p", "--most", "5", "--data-root", ".", "--format", "json")
    ((a, b, _), named), *_ = compared
    assert (a, b) == (Path("a"), Path("b"))
    assert named == {"format": "json", "samples": True, "pictures": Path("p"), "data_root": Path(), "most": 5}


def test_show(call: Said, caught: Any) -> None:
    shown = caught("meteor_bench.runs.patches.command.show", STOP)
    own = ["--method", "fastv", "--method", "random", "--ratio", "0.5", "--ratio", "0.25", "--param", "fastv:layer=3"]
    call("show", "pocket_gqa/1", *own, "--out", "x.png", *_said(RUN_OF_SHOW))
    sample, configs, out = shown[0][0]
    assert (sample, out) == ("pocket_gqa/1", Path("x.png"))
    assert [(c.method, c.ratio, c.parameters) for c in configs] == [
        ("fastv", 0.5, {"layer": 3}),
        ("fastv", 0.25, {"layer": 3}),
        ("random", 0.5, {}),
        ("random", 0.25, {}),
    ]
    assert all(getattr(c, name) == OF_RUN[name][1] for c in configs for name in RUN_OF_SHOW)


class Written:
    """A document that notes its format."""

    def __init__(self, forms: list[Any]) -> None:
        self.forms = forms

    def write(self, stream: Any, form: str) -> None:
        self.forms.append(form)


def test_paper(call: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    from meteor_bench.runs.paper import Request

    done: list[Any] = []
    monkeypatch.setattr(Request, "print_plan", lambda self, out: done.append(self) or 0)
    monkeypatch.setattr(Request, "run_missing", lambda self: done.append("run") or 0)
    monkeypatch.setattr(Request, "document", lambda self: Written(done))
    named = ["paper", "meteor", "--table", "t", "--model", "pocket"]
    call(*named, "--plan", *_said(RUN_OF_PAPER))
    call(*named, "--run", "--format", "latex")
    request, *rest = done
    assert (request.name, request.table, request.model) == ("meteor", "t", "pocket") and rest == ["run", "latex"]
    assert all(getattr(request.base, name) == OF_RUN[name][1] for name in RUN_OF_PAPER)


def test_check(call: Said, caught: Any) -> None:
    checked = caught("meteor_bench.runs.regression.command.check", False)
    own = ["--baseline", "b.yaml", "--methods", "fastv,random", "--update", "--junit", "j.xml"]
    call("check", *own, *_said(RUN_OF_CHECK))
    (file, named, _), kept = checked[0]
    assert file == Path("b.yaml") and kept == {"update": True, "junit": Path("j.xml"), "data_root": Path()}
    run = {name: OF_RUN[name][1] for name in RUN_OF_CHECK if name != "data_root"}
    assert named == {**run, "methods": ["fastv", "random"]}


def test_doctor_and_list(call: Said, caught: Any) -> None:
    examined = caught("meteor_bench.runs.doctor.examine", [])
    printed = caught("meteor_bench.cli.doctor.print_rows")
    call("doctor", "--json", "--full")
    assert printed[0][0] == ([], True) and examined == [((), {"full": True})]
    for what in GROUPS["list"]:
        printed = caught("meteor_bench.cli.list.print_rows")
        call("list", what, "--json")
        assert printed[0][0][1] is True
    tasks = caught("meteor_bench.report.listing.tasks", [])
    call("list", "tasks", "--suite", "ci")
    assert tasks == [(("ci",), {})]


def test_data(call: Said, caught: Any) -> None:
    for what, more in (("fetch", {}), ("check", {"as_json": True})):
        done = caught(f"meteor_bench.cli.data._{what}", 0)
        call("data", what, "--root", "r", "--suite", "ci", "--tasks", "pope,gqa", *["--json"] * bool(more))
        (root, suite, tasks, *_), named = done[0]
        assert (root, suite, tasks) == (Path("r"), "ci", "pope,gqa") and named == more


@pytest.mark.parametrize(
    ("command", "flag", "typed", "expected"),
    [
        ("run", "tasks", "pocket_gqa,pocket_po", ["pocket_gqa,pocket_pope"]),
        ("run", "stages", "encode,f", ["encode,fuse"]),
        ("run", "device", "cu", ["cuda"]),
        ("run", "method", "meteo", ["meteor"]),
        ("run", "model", "pocket-", ["pocket-clips", "pocket-independent"]),
        ("run", "suite", "poc", ["pocket11", "pocket"]),
        ("run", "dtype", "bf", ["bfloat16"]),
        ("run", "positions", "k", ["keep"]),
        ("sweep", "methods", "fastv,meteo", ["fastv,meteor"]),
        ("sweep", "methods", "al", ["all"]),
        ("sweep", "engine", "r", ["ray"]),
        ("latency", "methods", "fastv,al", ["fastv,all"]),
        ("check", "methods", "fastv,meteo", ["fastv,meteor"]),
        ("show", "method", "meteo", ["meteor"]),
        ("paper", "name", "met", ["meteor"]),
        ("data fetch", "task", "pope,gq", ["pope,gqa"]),
    ],
)
def test_completion(command: str, flag: str, typed: str, expected: list[str]) -> None:
    made = commands()[command]
    (parameter,) = (p for p in made.params if p.name == flag)
    with made.make_context(command, [], resilient_parsing=True) as context:
        found = [item.value for item in parameter.shell_complete(context, typed)]
    assert found[: len(expected)] == expected


def test_a_parameter_given_twice_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="--param layer is given twice: 2 and 3"):
        once([parameter("layer=2"), parameter("layer=3")])
