"""`meteor-bench data`: names into benchmarks, findings into lines and a table."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Annotated

import typer

from meteor_bench.cli.app import group, resumable
from meteor_bench.cli.completion import complete
from meteor_bench.cli.printing import Json
from meteor_bench.config.yaml_settings import names
from meteor_bench.core.errors import ConfigError
from meteor_bench.data import lookalike, suites
from meteor_bench.models.locate import go_online
from meteor_bench.records.schema import LOOKALIKES
from meteor_bench.report.rows import print_rows

app = group("Data sets of the hub, in a folder.")

Root = Annotated[Path, typer.Option(metavar="DIR", help="The data root, later given to `run --data-root`.")]
Suite = Annotated[str | None, typer.Option(autocompletion=complete("suites"), help="Benchmarks by suite.")]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--task",
        "--tasks",
        autocompletion=complete("tasks", many=True),
        help="Benchmarks by name, separated by commas.",
    ),
]


@app.command()
def fetch(root: Root, suite: Suite = None, task: Tasks = None) -> None:
    """Fetch data sets of the hub into a folder, from which `run --data-root` reads offline.

    Goes on where it was interrupted. A token (HF_TOKEN) is used only for data sets whose licence asks for one. Exit
    status 2: something could not be fetched, or is not what the benchmarks expect.
    """
    raise typer.Exit(_fetch(root, suite, task, sys.stderr))


@app.command()
def check(root: Root, suite: Suite = None, task: Tasks = None, json: Json = False) -> None:
    """Compare a folder of fetched data with its manifest and the benchmarks. Exit status 2: something is wrong."""
    raise typer.Exit(_check(root, suite, task, sys.stdout, sys.stderr, as_json=json))


def _fetch(root: Path, suite: str | None, tasks: str | None, errors: IO[str]) -> int:
    """Fetch; the exit status.

    Raises:
        MeteorBenchError: no such benchmark or suite, or nothing could be fetched.
    """
    rows = _rows(suite, tasks)
    if rows is None:
        raise ConfigError("say what to fetch: --suite meteor11, or --task pope,gqa")
    go_online()  # before huggingface_hub is imported; this command is asked to
    from meteor_bench.data.fetch import fetch as bring

    with resumable(lambda: "what was fetched is kept; the same command goes on from there"):
        problems = bring(rows, root)
    return _told(problems, errors)


def _check(root: Path, suite: str | None, tasks: str | None, out: IO[str], errors: IO[str], *, as_json: bool) -> int:
    """Compare and print; the exit status.

    Raises:
        MeteorBenchError: as for `fetch`, or there is nothing to compare with.
    """
    from meteor_bench.data.check import check as examine

    if not root.is_dir():
        raise ConfigError(f"--root: {root} is no folder")
    table = examine(root, _rows(suite, tasks))
    shown = table if as_json else [{k: v for k, v in row.items() if k not in ("problems", "note")} for row in table]
    if shown:
        print_rows(shown, out, as_json=as_json, aside=("benchmarks",))
    notes = [LOOKALIKES] if lookalike.rows(root) is not None else [row["note"] for row in table if row["note"]]
    errors.write("".join(f"note: {note}\n" for note in notes))
    return _told((line for row in table for line in row["problems"]), errors)


def _rows(suite: str | None, tasks: str | None) -> list[suites.Benchmark] | None:
    """Benchmarks with data of the hub; None where nothing is named.

    Raises:
        ConfigError: an unknown name, or all of them are shipped.
    """
    if suite is None and tasks is None:
        return None
    named = suites.resolve(suite or "", names(tasks) if tasks is not None else ())
    rows = [row for row in named if row.stock]
    if not rows:
        raise ConfigError(f"{', '.join(row.task for row in named)}: shipped with meteor-bench, nothing to fetch")
    return rows


def _told(problems: Iterable[str], errors: IO[str]) -> int:
    lines = list(problems)
    for line in lines:
        errors.write("error: " + " ".join(line.split()) + "\n")
    return 2 if lines else 0
