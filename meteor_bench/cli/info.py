"""`list`, `data` and `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meteor_bench.cli.app import app, data, listing
from meteor_bench.cli.options import Json, complete_suites, print_rows

__all__ = ["doctor"]


@listing.command("methods")
def _methods(json: Json = False) -> None:
    """Pruning methods: where they act and what they need."""
    from meteor_bench.cli.listing import methods

    print_rows(methods(), json, aside=("paper", "substitutes", "parameters"))


@listing.command("models")
def _models(json: Json = False) -> None:
    """Models: encoders, fusion, tokens, licence."""
    from meteor_bench.cli.listing import models, unsupported

    print_rows(models(), json, aside=("encoders", "llm", "weights", "note"))
    if not json:
        typer.echo(unsupported())


@listing.command("tasks")
def _tasks(
    json: Json = False,
    suite: Annotated[str | None, typer.Option(autocompletion=complete_suites, help="Only those of a suite.")] = None,
) -> None:
    """Benchmarks: group, metric, number of questions, suites, data, what to know.

    The metric is lmms-eval's; times its scale it is the score of 0 to 100. Questions are told apart by their family.
    """
    from meteor_bench.cli.listing import tasks

    aside = ("metric", "scale", "dataset", "config", "split", "family", "suites", "reported", "note")
    print_rows(tasks(suite), json, aside=aside)


Root = Annotated[Path, typer.Option(metavar="DIR", help="The data root, later given to `run --data-root`.")]
DataSuite = Annotated[str | None, typer.Option(autocompletion=complete_suites, help="Benchmarks by suite.")]
DataTasks = Annotated[str | None, typer.Option("--task", "--tasks", help="Benchmarks by name, separated by commas.")]


@data.command("fetch")
def _fetch(root: Root, suite: DataSuite = None, task: DataTasks = None) -> None:
    """Fetch data sets of the hub into a folder, from which `run --data-root` reads offline.

    Goes on where it was interrupted. A token (HF_TOKEN) is used only for data sets whose licence asks for one. Exit
    status 2: something could not be fetched, or is not what the benchmarks expect.
    """
    from meteor_bench.cli import data as bodies

    raise typer.Exit(bodies.fetch(root, suite, task, sys.stderr))


@data.command("check")
def _check_data(root: Root, suite: DataSuite = None, task: DataTasks = None, json: Json = False) -> None:
    """Compare a folder of fetched data with its manifest and the benchmarks. Exit status 2: something is wrong."""
    from meteor_bench.cli import data as bodies

    raise typer.Exit(bodies.check(root, suite, task, sys.stdout, sys.stderr, as_json=json))


@app.command()
def doctor(json: Json = False) -> None:
    """Check the environment, and say what would not work and why."""
    from meteor_bench.cli.doctor import examine

    findings = examine()
    print_rows([finding._asdict() for finding in findings], json)
    if any(finding.state == "fails" for finding in findings):
        raise typer.Exit(1)
