"""Every command of README.md and of the pages under docs/: known to the command line, and run as far as a test can.

A command that a page gains has to be entered below: as it is, shortened by flags behind it (the later of two wins), run
by another test, or not run, with the reason. The guides of GUIDES have tests of their own.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from meteor_bench.cli import app as application
from meteor_bench.core.registry import METHODS
from tests.commands import Call
from tests.docs.guides import DOCS, blocks

pytestmark = pytest.mark.xdist_group("lmms_eval")
ROOT = DOCS.parent
GUIDES = {"choosing-a-ratio.md", "your-own-data.md", *(path.name for path in DOCS.glob("adding-a-*.md"))}
WITHOUT = {*GUIDES, "architecture.md", "LOG.md"}  # the second's block is a tree of folders
PAGES = ["../README.md", *sorted(path.name for path in DOCS.glob("*.md") if path.name not in WITHOUT)]
METHOD_PAGES = sorted(f"methods/{path.name}" for path in (DOCS / "methods").glob("*.md"))

QUICK = ["list methods", "list methods --json", "list tasks --suite meteor11"]
FEW = "--limit 1 --suite ci --device cpu"
TIMED = "--passes 1 --warmup 1 --new-tokens 2 --batch 1 --ratio 0.5 --methods fastv --device cpu"
# Command -> the flags that shorten it.
SLOW = {
    "list models": "",
    "doctor": "",
    "run --method meteor --ratio 0.76": FEW,
    "run --method fastv --ratio 0.5 --suite ci": FEW,
    "run --method fastv --ratio 0.76 --suite ci --limit 8": FEW,
    "run --method meteor --ratio 0.76 --stages encode,fuse --param fusion=random": FEW,
    "run --config run.yaml --limit 50": FEW,
    "run --model pocket-clips --tasks pocket_longvideo --method fastvid --ratio 0.76": "--limit 1 --device cpu",
    "run --model MODEL --method fastv --ratio 0.5 --suite meteor11 --data-root DATA": f"{FEW} --tasks pope",
    "sweep --methods all --ratios 0.5,0.76,0.889 --limit 64": f"{FEW} --ratios 0.5 --methods random,uniform --seeds 0",
    "sweep --methods all --ratios 0.5,0.76 --limit 64": f"{FEW} --ratios 0.5 --methods random,uniform --seeds 0",
    "sweep --methods 'meteor,meteor(budgets=uniform)' --ratios 0.76": f"{FEW} --models pocket-independent",
    "sweep sweep.yaml --dry-run": "--methods random --models pocket --device cpu",
    "choose --max-drop 1": "--max-drop 100 --method random --ratios 0.25 --tasks pocket_gqa --limit 2 --device cpu",
    "report results/runs": "",
    "report results/runs --json": "",
    "run --method fastv --ratio 0.76 --quiet": FEW,
    "report RUN --sub-scores": "",
    "report results/reference/pocket --html report.html": "",
    "report results/reference/pocket --top 5 --by stage": "",
    "compare RUN OTHER --samples": "",
    "show pocket_gqa/12 --method fastv --ratio 0.76": "--device cpu",
    "show pocket_gqa/12 --method fastv --method meteor --ratio 0.76": "--device cpu",
    "show pocket_gqa/12 --method fastv --method visionzip --ratio 0.76 --out show.png": "--device cpu",
    "show pocket_gqa/12 --method fastv --method visionzip --ratio 0.76 --out docs/show.png": "--device cpu",
    "latency --methods meteor,fastv --ratio 0.76": TIMED,
    "latency --methods meteor,fastv --ratio 0.5,0.76 --batch 1,8": TIMED,
    "latency --methods all --ratio 0.5,0.76 --batch 1,8": TIMED,
    "latency --selection --tokens 1024 --batch 1,8": "--tokens 64 --passes 1 --batch 1 --methods fastv",
    "latency --count-launches --model eagle-x5-7b": "--methods fastv --batch 1",
    "latency --count-launches --model eagle-x5-7b --methods all --ratio 0.76 --batch 1,8": "--methods fastv --batch 1",
    "latency --count-launches --methods meteor,fastv --ratio 0.76": "--methods fastv",
    "latency --model mine.yaml --random-weights --methods meteor,evoprune --ratio 0.5,0.76": TIMED,
    "doctor --model FOLDER": "",
    "doctor --model mine.yaml": "--device cpu",
    "data check --root DATA": "--task pope",
    "paper meteor": "",
    "paper evoprune --table schedules --format markdown": "",
    "check --baseline mine.yaml --update --methods divprune,fastv --ratio 0.5": FEW,
}
# Command, or how it begins where it is not ours -> the file that runs it, and what stands there.
ELSEWHERE = {
    "check --baseline results/reference/check.yaml": ("Makefile", "meteor-bench check --baseline results/reference/"),
    "check --baseline results/reference/check.yaml --junit check.xml": (
        ".github/workflows/ci.yml",
        "--junit check.xml",
    ),
    "data fetch --suite meteor11 --root DATA": (
        "tests/cli/test_data.py",
        'call("fetch", "--task"',
    ),  # a hub of the tests
    "latency --model qwen3-vl-2b --random-weights --limit-layers 2": (
        "tests/runs/latency/test_command.py",
        '"--random-weights", "--limit-layers", "2"',
    ),
    "sweep sweep.yaml --engine ray": ("tests/runs/sweep/test_end_to_end.py", '"--engine", "ray"'),
    "paper meteor --plan": ("tests/runs/test_paper_runs.py", 'call("--plan")'),
    "torchrun": ("tests/runs/distributed/test_launched.py", "torch.distributed.run"),
    "accelerate launch": ("tests/runs/distributed/test_launched.py", "accelerate.commands.launch"),
    "lmms-eval": ("tests/lmms/test_cli.py", '"lmms_eval", "--model", "meteor_bench"'),
    "scripts/gpu_bench.sh": ("tests/scripts/test_gpu_bench.py", "gpu_bench.sh"),
    "make run": ("tests/test_packaging.py", '("run", {"requirements.lock"}'),
    "make check": (".ci/run", "make check"),
    "python scripts/natural_pictures.py": ("tests/natural/test_pictures.py", "natural_pictures.main("),
    "python scripts/natural_kept.py": ("tests/natural/test_pictures.py", "natural_kept.main("),
    "python scripts/natural_letters.py": ("tests/natural/test_letters.py", "natural_letters.main("),
    "python scripts/natural_figures.py": ("tests/natural/test_model.py", "natural_figures.main("),
    "python scripts/train_natural.py": ("tests/natural/test_training.py", "train_natural.main("),
    "python scripts/rankings.py": ("tests/scripts/test_rankings.py", "rankings.main("),
    "python scripts/reference_pocket.py": ("tests/test_reference.py", "from scripts import reference_pocket"),
    "make natural": ("tests/test_packaging.py", '("natural", {*LOCKS[:2], "requirements-natural.lock"}'),
    "make test-natural": ("Makefile", "-m pytest --durations 15 tests/natural"),
}
NOT_RUN = {
    "run --model natural --suite natural --method fastv --ratio 0.76": "wants the packages of `make natural`",
    "sweep --models ./whole --suite natural --methods random,uniform,fastervlm,fastv --ratios 0.76 --seeds 0 "
    "--limit 100 --dtype bfloat16": "wants weights that were trained for half an hour",
    "run --model NVEagle/Eagle-X5-7B --method fastv --ratio 0.5 --device cuda": "wants a released checkpoint and a GPU",
    "latency --model eagle-x5-7b --random-weights --methods all --ratio 0.76 --batch 1,8": "wants a GPU",
}


def lines(page: str) -> list[str]:
    """Commands of a page, without their remarks."""
    found = [line for tag in ("", "sh") for block in blocks(page, tag) for line in block.splitlines()]
    return [re.sub(r"\s+# .*", "", line).strip() for line in found]


def ours(page: str) -> list[str]:
    return [line.removeprefix("meteor-bench ") for line in lines(page) if line.startswith("meteor-bench ")]


OURS = [command for page in PAGES for command in ours(page)]
OTHERS = [line for page in PAGES for line in lines(page) if not line.startswith("meteor-bench ")]


def understood(command: str) -> None:
    """Parse as the command line does, without running."""
    found: Any = typer.main.get_command(application.app)
    arguments = shlex.split(command)
    context = found.make_context("meteor-bench", list(arguments))
    while hasattr(found, "resolve_command") and arguments:
        name, found, arguments = found.resolve_command(context, arguments)
        context = found.make_context(name, list(arguments), parent=context)


@pytest.mark.parametrize("page", [*PAGES, *METHOD_PAGES])
def test_every_command_is_one(page: str) -> None:
    for command in ours(page):
        understood(command)


def test_a_command_that_is_none_is_noticed() -> None:
    for wrong in ("run --methods fastv", "shew", "list nothing", "report --limit 3"):
        with pytest.raises(Exception, match=r"(?i)no such"):
            understood(wrong)


def test_every_command_has_its_test() -> None:
    entered = [*QUICK, *SLOW, *[c for c in ELSEWHERE if c in OURS], *NOT_RUN]
    assert sorted(set(OURS)) == sorted(entered)
    assert all(line.startswith(tuple(ELSEWHERE)) for line in OTHERS)
    assert len({line.partition(" ")[0] for line in OTHERS}) >= 5


@pytest.mark.parametrize(("file", "said"), ELSEWHERE.values(), ids=list(ELSEWHERE))
def test_what_another_file_runs_stands_there(file: str, said: str) -> None:
    assert said in (ROOT / file).read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], None]:
    """What the pages' commands find in their folder; each only where a command names it."""

    def prepare(command: str) -> None:
        reference = ROOT / "results" / "reference"
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "reference").symlink_to(reference)
        (tmp_path / "docs").mkdir()
        for name, text in zip(("run.yaml", "sweep.yaml"), blocks("compare-methods.md", "yaml"), strict=True):
            (tmp_path / name).write_text(text)
        runs = sorted(path.parent for path in (reference / "pocket").glob("*-fastv-*/run.json"))[:2]
        for name, run in zip(("RUN", "OTHER"), runs, strict=True):
            (tmp_path / name).symlink_to(run)
        if "results/runs" in command:
            (tmp_path / "results" / "runs").mkdir()
            (tmp_path / "results" / "runs" / runs[0].name).symlink_to(runs[0])
        if "mine.yaml" in command and "check" not in command:
            from tests import composed

            said = "weights: weights\n"  # which random weights do without
            text = composed.FILE.replace(said, "") if "--random-weights" in command else composed.FILE
            (tmp_path / "mine.yaml").write_text(text)
            (tmp_path / "weights").symlink_to(composed.file().parent / "weights")
        if "FOLDER" in command:
            from tests import hubs

            shutil.copytree(hubs.folder("llava"), tmp_path / "FOLDER")
        if "DATA" in command:
            from scripts.make_lookalikes import make

            make(tmp_path / "DATA", ("pope",))

    return prepare


def ends_well(command: str, more: str, call: Call, place: Callable[[str], None]) -> str:
    place(command)
    done = call(*shlex.split(command.replace("MODEL", "pocket")), *shlex.split(more))
    assert done.code == 0, done.err
    assert done.out.strip()
    return done.out


@pytest.mark.parametrize("command", QUICK)
def test_it_ends_well(command: str, call: Call, place: Callable[[str], None]) -> None:
    ends_well(command, "", call, place)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("command", SLOW)
def test_it_ends_well_shortened(command: str, call: Call, place: Callable[[str], None], tmp_path: Path) -> None:
    ends_well(command, SLOW[command], call, place)
    for written in re.findall(r"--(?:html|out) (\S+)", command):
        assert (tmp_path / written).stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", METHOD_PAGES)
def test_the_command_of_a_method_s_page_ends_well(page: str, call: Call, place: Callable[[str], None]) -> None:
    (command,) = ours(page)
    out = ends_well(command, "--limit 1 --device cpu", call, place)
    method = shlex.split(command)[2]
    assert method in METHODS.rows and page == f"methods/{method.replace('+', '-plus')}.md" and method in out


def test_the_python_of_the_first_pages_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests import tiny

    monkeypatch.chdir(tmp_path)
    tiny.picture(0).resize((64, 64)).save("picture.png")
    (python,) = blocks("../README.md", "python")
    (same,) = blocks("index.md", "python")
    assert python.split() == same.split() and len([line for line in python.splitlines() if line]) <= 6
    exec(compile(python, "README.md", "exec"), {})
    assert capsys.readouterr().out.split()[-1] == "128"
