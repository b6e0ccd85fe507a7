"""A command in odd surroundings: it does what it was asked, or says in one line why not."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from meteor_bench.report import formats
from meteor_bench.report.table import Table
from meteor_bench.runs.distributed.process_group import (
    Place,
    place,
)
from meteor_bench.utils import process as surroundings
from meteor_bench.utils.plain_text import csv_value, visible
from tests.commands import Call

HERE = str(Path(__file__).parents[2])
LIST = ["list", "tasks"]


def command(
    arguments: list[str], folder: Path, *, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "meteor_bench", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": HERE, **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "0", "PYTHONIOENCODING": "ascii"},
        {"COLUMNS": "1", "LINES": "0", "PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252", "HOME": "/proc/nowhere", "HF_HOME": "/proc/nowhere"},
        {"RANK": "x", "WORLD_SIZE": "many"},
    ],
    ids=lambda environment: ",".join(environment) + str(next(iter(environment.values()))).replace("/", "-"),
)
def test_a_list_comes_whatever_is_around_it(environment: dict[str, str], tmp_path: Path) -> None:
    done = command(LIST, tmp_path, **environment)
    assert done.returncode == 0 and done.stderr == b""
    assert b"pocket_gqa" in done.stdout


def test_threads_that_are_no_number_are_said_and_ignored(tmp_path: Path) -> None:
    done = command(LIST, tmp_path, OMP_NUM_THREADS="abc")
    assert done.returncode == 0
    assert done.stderr == b"note: OMP_NUM_THREADS is no number of threads; it is ignored\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = command(LIST, tmp_path, stdout=full.fileno())
    assert done.returncode == 2
    said = b"error: standard output cannot be written: No space left on device; what was computed is kept\n"
    assert done.stderr == said


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os; os.rmdir('{gone}'); from meteor_bench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *LIST],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": HERE},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith(b"error: the working folder cannot be used (")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("text", ["a" * 300, "~nobody-there/x", "a/" * 3000])
def test_names_that_no_file_can_have_are_one_line(text: str, call: Call) -> None:
    done = call("report", text)
    assert done.code == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1


@pytest.mark.slow
def test_sigterm_is_like_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "meteor_bench", "run", "--tasks", "pocket_gqa", "--out", "runs"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": HERE},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("unpruned: "):
            break
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert said.splitlines()[-1].startswith("terminated: what was answered is kept; the same command")
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "partial"


@pytest.mark.slow
def test_the_shipped_model_runs_without_a_cache_of_its_own(tmp_path: Path) -> None:
    away = {"HOME": "/proc/nowhere", "HF_HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}
    arguments = ["run", "--tasks", "pocket_gqa", "--limit", "2", "--out", "runs"]
    done = command(arguments, tmp_path, **away, LMMS_EVAL_DATASETS_CACHE="")
    assert done.returncode == 0, done.stderr.decode()


def test_caches_go_to_a_temporary_folder_only_where_they_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in surroundings._CACHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert surroundings.writable_caches() is None and surroundings.cache_folder() == tmp_path / "hub"
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hub"))
    folder = surroundings.writable_caches()
    assert folder is not None and os.environ["HF_DATASETS_CACHE"].startswith(str(folder))


def test_only_a_launchers_whole_set_makes_ranks() -> None:
    whole = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    assert place(whole) == Place(1, 2, 1)
    for name in whole:
        assert place({key: value for key, value in whole.items() if key != name}) is None


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "a\rb", "\x9b31m", "\u202egnp.exe", "\x07", "\ud800"])
def test_a_terminal_obeys_no_name(text: str) -> None:
    shown = visible(text)
    assert not [letter for letter in shown if ord(letter) < 32 or 127 <= ord(letter) < 160 or letter == "\u202e"]
    table = Table(title=text, columns=[text, "n"], rows=[[text, "1"]], notes=[text])
    stream = io.StringIO()
    formats.terminal([table], stream, width=80)
    assert text not in stream.getvalue() and shown in stream.getvalue()
    assert "\x1b" not in formats.markdown([table])


def test_what_is_said_is_printable_in_any_encoding() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", errors=surroundings.ERRORS)
    stream.write("é ± − → ─ ‡ 日 \ud800")
    stream.flush()
    assert raw.getvalue() == b"e +- - -> - ++ ? ?"


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("+cmd", "'+cmd"),
        ("-x", "'-x"),
        ("-1.5", "-1.5"),
        ("-1e-3", "-1e-3"),
        (-2, -2),
    ],
)
def test_a_spreadsheet_computes_no_name(value: object, safe: object) -> None:
    assert csv_value(value) == safe
    text = formats.csv({"t": pd.DataFrame({"name": [value], "value": [-1.5]})}, ["name"])
    assert text.splitlines()[1] == f"t,{safe},-1.5"


def test_markdown_titles_and_notes_are_text() -> None:
    table = Table(title="a\n# b [x](http://y) <img>", columns=["a"], rows=[["b"]], notes=["c\n- d <b>"])
    lines = formats.markdown([table]).splitlines()
    assert lines[0] == "### a # b [x]\\(http://y) &lt;img>" and lines[-1] == "- c - d &lt;b>"
