"""docs/adding-a-method.md from its first line to a table: the file, the commands, the Python."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests import tiny
from tests.commands import Call
from tests.docs.guides import blocks, commands

pytestmark = pytest.mark.xdist_group("lmms_eval")
METHOD, PYTHON = blocks("adding-a-method.md", "python")
COMMANDS = [given for given in commands("adding-a-method.md") if "./loudest.py" in " ".join(given)]


@pytest.fixture
def loudest(tmp_path: Path) -> Path:
    file = tmp_path / "loudest.py"
    file.write_text(METHOD)
    return file


def test_the_method_is_a_score_and_little_else() -> None:
    assert sum(bool(line.strip()) for line in METHOD.splitlines()) <= 12
    assert sum("import" in line for line in METHOD.splitlines()) <= 3


@pytest.mark.parametrize(
    "given",
    [pytest.param(given, marks=[pytest.mark.slow] * (at > 0), id=" ".join(given)) for at, given in enumerate(COMMANDS)],
)
def test_each_command_ends_with_its_table(given: list[str], loudest: Path, call: Call) -> None:
    assert len(COMMANDS) == 3
    done = call(*given, "--device", "cpu")
    assert done.code == 0, done.err
    assert "loudest" in done.out and "pocket_" in done.out
    records = [json.loads(file.read_text()) for file in Path("results/runs").glob("*/run.json")]
    (ours,) = [record for record in records if record["config"]["method"] == "./loudest.py"]
    assert ours["method_files"] == {"loudest": hashlib.sha256(loudest.read_bytes()).hexdigest()}
    assert ours["parameters"] == {"order": 1.0 if "order=1" in given else 2.0}


def test_the_python_of_the_page_answers(loudest: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.chdir(loudest.parent)
    exec(compile(PYTHON, "page", "exec"), {"picture": tiny.picture(0).resize((64, 64))})
    assert capsys.readouterr().out.split()[-1] == "61"  # type: ignore[attr-defined]


ANOTHER = METHOD.partition("@dataclass")[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Loudest(FuseScorer:\n", r"loudest\.py:1: not valid Python: "),
        ("x = 1\n", r"loudest\.py holds no method: no class in it derives from Pruner"),
        (METHOD + "\n\n@dataclass" + ANOTHER.replace("Loudest", "Softest"), "holds 2 methods .Loudest, Softest.; name"),
        ("raise ValueError('no\\nway')\n", r"loudest\.py fails when it is run: ValueError: no way"),
        ("import nothing_of_that_name\n", r"fails when it is run: ModuleNotFoundError: No module named 'nothing"),
    ],
)
def test_a_broken_file_is_one_line(text: str, said: str, loudest: Path, call: Call) -> None:
    loudest.write_text(text)
    done = call("run", "--method", "./loudest.py", "--ratio", "0.5", "--dry-run")
    *told, last = done.err.splitlines()
    assert done.code == 2 and last.startswith("error: ") and "error" not in " ".join(told)
    assert re.search(said, last), done.err


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("./nowhere.py", "method file nowhere.py cannot be read: No such file or directory"),
        ("./loudest.py:Quiet", "loudest.py holds no method 'Quiet'; it holds Loudest"),
    ],
)
def test_a_name_that_is_not_there_is_one_line(method: str, said: str, loudest: Path, call: Call) -> None:
    done = call("run", "--method", method, "--ratio", "0.5", "--dry-run")
    assert done.code == 2 and said in done.err and done.err.count("error: ") == 1
