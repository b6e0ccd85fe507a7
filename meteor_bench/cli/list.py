"""`meteor-bench list`: methods, models, tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from meteor_bench.cli.app import group
from meteor_bench.cli.completion import complete
from meteor_bench.cli.printing import Json, print_rows
from meteor_bench.report import listing

app = group("What there is to choose from.")


@app.command()
def methods(json: Json = False) -> None:
    """Pruning methods: where they act and what they need."""
    print_rows(listing.methods(), json, aside=("paper", "substitutes", "parameters"))


@app.command()
def models(json: Json = False) -> None:
    """Models: encoders, fusion, tokens, licence."""
    print_rows(listing.models(), json, aside=("encoders", "llm", "weights", "note"))
    if not json:
        typer.echo(listing.unsupported())


@app.command()
def tasks(
    json: Json = False,
    suite: Annotated[str | None, typer.Option(autocompletion=complete("suites"), help="Only those of a suite.")] = None,
) -> None:
    """Benchmarks: group, metric, number of questions, suites, data, what to know.

    The metric is lmms-eval's; times its scale it is the score of 0 to 100. Questions are told apart by their family.
    """
    aside = ("metric", "scale", "dataset", "config", "split", "family", "suites", "reported", "note")
    print_rows(listing.tasks(suite), json, aside=aside)
