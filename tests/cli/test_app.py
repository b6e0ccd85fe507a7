"""The command line: one clear line and the right exit status for each mistake, and what the commands print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

from meteor_bench import __version__
from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.interrupts import Terminated
from meteor_bench.runs import job as run_module
from meteor_bench.runs.job import Outcome
from meteor_bench.runs.sweep import task
from tests import synthetic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --method metor", "unknown method 'metor'; did you mean 'meteor'?"),
        ("run --model pokcet", "unknown model 'pokcet'; did you mean 'pocket'?"),
        ("run --tasks pocket_pop", "unknown task 'pocket_pop'; did you mean 'pocket_pope'?"),
        ("run --suite pokcet", "unknown suite 'pokcet'; did you mean 'pocket'?"),
        ("run --methd meteor", "No such option: --methd (Possible options: --match, --method"),
        ("rnu", "No such command 'rnu'. Did you mean 'run'?"),
        ("list method", "No such command 'method'. Did you mean 'methods'?"),
        ("run --method meteor --ratio 1", "--ratio: expected a number, in [0, 1), found 1.0"),
        ("run --method meteor --ratio -0.2", "--ratio: expected a number, in [0, 1), found -0.2"),
        ("run --method meteor --ratio nan", "--ratio: expected a number, in [0, 1), found nan"),
        ("run --method meteor --ratio much", "--ratio: expected a number, in [0, 1), found 'much'"),
        ("run --method meteor", "method 'meteor' needs --ratio"),
        ("run --limit 0", "--limit: expected a whole number, 1 or more, found 0"),
        ("run --dtype float8", "--dtype: expected one of auto, float32, bfloat16, float16"),
        ("run --param layer --method fastv --ratio 0.5", "--param takes name=value, not 'layer'"),
        ("run --config no.yaml", "cannot read no.yaml: No such file or directory"),
        ("sweep --ratios 0.5", "a sweep needs methods; say --methods"),
        ("sweep --methods fastv,metor --ratios 0.5", "unknown method 'metor'; did you mean 'meteor'?"),
        ("sweep --methods all --ratios 0.5,half", "--ratios[1]: expected a number, in [0, 1), found 'half'"),
        ("sweep no.yaml", "cannot read no.yaml: No such file or directory"),
        ("report no-such-folder", "no-such-folder is not there; expected a folder of runs"),
        ("report . --format pdf", "Invalid value for '--format': 'pdf' is not one of"),
        ("report", "Missing argument 'RUNS...'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(call, arguments: str, message: str) -> None:
    result = call(*arguments.split())
    assert result.code == 2 and result.out == ""
    assert message in result.err and result.err.count("\n") == 1


def test_a_mistake_in_yaml(call, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: pocket\nmetod: meteor\n", encoding="utf-8")
    result = call("run", "--config", "run.yaml")
    assert (result.code, result.err) == (
        2,
        "error: run.yaml:2: metod: unknown key 'metod'; did you mean 'method'?\n",
    )


def test_version(call) -> None:
    result = call("--version")
    assert (result.code, result.out) == (0, f"meteor-bench {__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("list",), ("run", "--help")])
def test_help(call, arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert result.code == 0 and "Usage: meteor-bench" in result.out and result.err == ""


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Runs that `run` asked for; each leaves a synthetic folder."""
    assert task.execute is run_module.execute  # else it would take ours when it is first imported, and keep it
    configs: list[RunConfig] = []

    def execute(config: RunConfig, ranks: None) -> Outcome:
        configs.append(config)
        synthetic.write(config.unpruned())
        return Outcome(synthetic.write(config))

    monkeypatch.setattr(run_module, "execute", execute)
    return configs


def test_run_prints_three_tables_and_the_folder_last(call, executed: list[RunConfig]) -> None:
    result = call("run", "--method", "meteor", "--ratio", "0.76", "--limit", "4", "--tasks", "pocket_gqa,pocket_pope")
    assert result.code == 0
    assert executed == [RunConfig(method="meteor", ratio=0.76, limit=4, tasks=("pocket_gqa", "pocket_pope"))]
    assert all(f"{what}: pocket-independent, meteor at ratio 0.76" in result.out for what in ("Accuracy", "Tokens"))
    last = Path(result.out.splitlines()[-1])
    assert (last / "run.json").is_file() and last.parent == Path("results/runs")


def test_a_sweep_that_is_interrupted_is_exit_130(call, monkeypatch: pytest.MonkeyPatch) -> None:

    def interrupted(config: object) -> None:
        raise KeyboardInterrupt

    from meteor_bench.runs.sweep import runner

    monkeypatch.setattr(runner, "sweep", interrupted)
    result = call("sweep", "--methods", "all", "--ratios", "0.5")
    assert result.code == 130 and result.err.splitlines()[-1].startswith("interrupted: ")


def test_ray_that_is_not_installed_is_one_line(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = call("sweep", "--methods", "fastv", "--ratios", "0.5", "--engine", "ray")
    assert result.code == 2 and result.out == ""
    assert result.err.splitlines()[-1] == "error: engine ray needs the extra 'ray': pip install 'meteor-bench[ray]'"


def test_a_missed_budget_is_exit_1(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(config: RunConfig, ranks: None) -> Outcome:
        return Outcome(synthetic.write(config), 3, "pocket_gqa/7: 62 tokens instead of 61")

    monkeypatch.setattr(run_module, "execute", execute)
    result = call("run", "--method", "fastv", "--ratio", "0.76")
    assert result.code == 1
    assert result.err == "error: the budget was missed on 3 samples, say pocket_gqa/7: 62 tokens instead of 61\n"


def test_ctrl_c_is_exit_130(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(config: RunConfig, ranks: None) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "execute", execute)
    result = call("run")
    assert result.code == 130 and result.err.startswith("interrupted: ") and result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("signal", "told", "code"), [(KeyboardInterrupt, "interrupted", 130), (Terminated, "terminated", 143)]
)
@pytest.mark.parametrize(
    ("command", "place", "left"),
    [
        ("choose --max-drop 1", "runs.choose.command.choose", "what was answered is kept; the same command goes on"),
        ("check --baseline check.yaml", "runs.regression.command.check", "nothing is kept"),
        ("data fetch --root . --task pope", "data.fetch.fetch", "what was fetched is kept; the same command goes on"),
        ("compare a b", "cli.compare.run", ""),
    ],
)
def test_what_ends_a_command_is_said(
    call, command: str, place: str, left: str, signal: type, told: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object, **named: object) -> None:
        raise signal

    monkeypatch.setattr(f"meteor_bench.{place}", stop)
    result = call(*command.split())
    assert result.code == code
    assert result.err.splitlines()[-1].startswith(f"{told}: {left}" if left else told)


@pytest.mark.parametrize("form", ["terminal", "json", "markdown", "csv", "latex"])
def test_report(call, tmp_path: Path, form: str) -> None:
    synthetic.reference(tmp_path / "runs")
    result = call("report", "runs", "--format", form)
    assert result.code == 0 and result.err == ""
    start = {
        "json": '{\n "schema"',
        "markdown": "### Accuracy",
        "csv": "table,model,benchmarks,questions,data,method,ratio,match,seeds",
    }
    assert result.out.startswith({"terminal": "Accuracy: pocket", "latex": "% \\usepackage{booktabs}", **start}[form])


def test_report_of_what_cannot_be_compared_stands_apart(call, tmp_path: Path) -> None:
    """A trial with --limit and the whole run: both are shown, and no difference between them."""
    for method in ("none", "fastv", "random"):
        for n in (8, 4):
            ratio = 0.0 if method == "none" else 0.5
            synthetic.write(RunConfig(method=method, ratio=ratio, limit=n, out=tmp_path / str(n)), n=n)
    result = call("report", "8", "4", "--format", "markdown")
    assert result.code == 0 and result.err == ""
    assert "### Accuracy: pocket, 40 questions" in result.out and "### Accuracy: pocket, 20 questions" in result.out


def test_report_of_nothing(call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = call("report", "empty")
    assert (result.code, result.out) == (2, "") and "empty holds no run" in result.err


def test_a_broken_record_is_one_line(call, tmp_path: Path) -> None:
    path = synthetic.write(RunConfig(out=tmp_path / "runs"))
    file = path / "run.json"
    file.write_text(file.read_text(encoding="utf-8")[:400], encoding="utf-8")
    result = call("report", "runs")
    assert result.code == 2 and "run.json is cut or no record" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("what", ["methods", "models", "tasks"])
def test_list(call, what: str) -> None:
    from meteor_bench.core.registry import METHODS, MODELS
    from meteor_bench.data.suites import task_names

    names = {"methods": METHODS.names(), "models": MODELS.names(), "tasks": task_names()}[what]
    rows = json.loads(call("list", what, "--json").out)
    assert [row["name"] for row in rows] == names
    text = call("list", what).out
    assert all(name in text for name in names) and "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_tasks_of_one_suite(call) -> None:
    rows = json.loads(call("list", "tasks", "--suite", "meteor11", "--json").out)
    assert len(rows) == 11 and {row["name"]: row["questions"] for row in rows}["pope"] == 9000
    assert "did you mean 'meteor11'" in call("list", "tasks", "--suite", "meteor").err


def test_a_task_is_listed_with_all_that_its_row_says(call) -> None:
    (mme,) = (row for row in json.loads(call("list", "tasks", "--json").out) if row["name"] == "mme")
    assert (mme["metric"], mme["scale"], mme["family"]) == ("mme_perception_score,none", 0.05, "category")
    text = call("list", "tasks", "--suite", "evoprune-image").out
    for line in ("metric: mme_perception_score,none", "scale: 0.05", "dataset: lmms-lab-encoder/MMBench", "config: en"):
        assert f"  {line}" in text
    assert "reported: our choice for METEOR's group; EvoPrune" in text and "split: dev" in text


def test_dry_run_builds_and_writes_nothing(call, tmp_path: Path) -> None:
    result = call("run", "--method", "meteor", "--ratio", "0.76", "--limit", "4", "--dry-run")
    assert result.code == 0 and list(tmp_path.iterdir()) == []
    for said in ("unpruned on pocket", "meteor on pocket-independent at ratio 0.76", "pocket_pope: 4 questions"):
        assert said in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--method fastv --ratio 0.5 --param layr=3", "did you mean 'layer'?"),
        ("--method fastv --ratio 0.5 --param layer=two", "expected a whole number, 1 or more"),
        ("--method fastv --ratio 0.5 --stages decode", "has no stages to choose from"),
        ("--device cuda:99", "CUDA devices; use --device cpu"),
    ],
)
def test_what_a_dry_run_finds(call, arguments: str, message: str) -> None:
    result = call("run", "--dry-run", *arguments.split())
    *before, last = result.err.splitlines()
    assert result.code == 2 and message in last and last.startswith("error: ") and before == ["loading libraries"]


def test_help_is_as_quick_as_typer_itself() -> None:
    """At most twice the time of importing typer; the best of a few, for the machine may be busy."""

    def seconds(*command: str) -> float:
        start = perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        return perf_counter() - start

    most = 2 * min(seconds("-c", "import typer") for _ in range(5))
    assert any(seconds("-m", "meteor_bench", "--help") <= most for _ in range(5))


def test_what_is_not_imported() -> None:
    """By any of these, one after the other in a process."""
    commands = ["--help", "run --help", "run --method metor", "sweep --methods metor", "doctor"]
    commands += [f"list {what}" for what in ("methods", "models", "tasks")]
    script = (
        "import sys; from meteor_bench import cli\n"
        f"for command in {commands!r}:\n"
        "    sys.argv[1:] = command.split()\n"
        "    try: cli.main()\n"
        "    except SystemExit: print(command, file=sys.stderr)\n"
        "    heavy = {'torch', 'transformers', 'datasets', 'pandas', 'lmms_eval'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{command} imported {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line in commands] == commands


def test_report_as_html(call, tmp_path: Path) -> None:
    synthetic.reference(tmp_path / "runs")
    done = call("report", "runs", "--html", "report.html")
    assert (done.code, done.out) == (0, "report.html\n")
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    for arguments, said in (
        (("--pictures", "3"), "add --html FILE"),
        (("--html", "r.html", "--pictures", "-1"), "than or equal to 0"),
    ):
        failed = call("report", "runs", *arguments)
        assert failed.code == 2 and said in failed.err and failed.err.count("\n") == 1


def test_show_says_what_is_wrong_in_one_line(call) -> None:
    for arguments, said in (
        (("pocket_gqa/999", "--method", "fastv", "--ratio", "0.5"), "documents 0 to 299"),
        (("pocket_gqa/1", "--method", "fastv", "--ratio", "1.5"), "1.5"),
        (("pocket_gqa/1", "--method", "fast", "--ratio", "0.5"), "did you mean 'fastv'"),
        (("pocket_gqa/1", "--method", "fastv", "--ratio", "0.5", "--out", "x.gif"), "must end in .png"),
    ):
        failed = call("show", *arguments)
        assert failed.code == 2 and said in failed.err and failed.err.strip().splitlines()[-1].startswith("error: ")
