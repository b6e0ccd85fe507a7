"""Flags that several commands have, what their values complete to, and how things are printed."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "BatchSize",
    "DataRoot",
    "Device",
    "Dtype",
    "Format",
    "Frames",
    "How",
    "Json",
    "Limit",
    "Online",
    "Positions",
    "Seed",
    "Source",
    "Stages",
    "Tasks",
    "complete_methods",
    "complete_models",
    "complete_papers",
    "complete_suites",
    "given",
    "print_report",
    "print_rows",
]


class Format(StrEnum):
    """How tables are printed."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


def complete_models(incomplete: str) -> list[str]:
    """Rows of the model table that begin so."""
    from meteor_bench.core.registry import MODELS

    return [name for name in MODELS.names() if name.startswith(incomplete)]


def complete_methods(incomplete: str) -> list[str]:
    """Methods whose names begin so."""
    from meteor_bench.core.registry import METHODS

    return [name for name in METHODS.names() if name.startswith(incomplete)]


def complete_suites(incomplete: str) -> list[str]:
    """Suites whose names begin so."""
    from meteor_bench.data.suites import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


def complete_papers(incomplete: str) -> list[str]:
    """Papers whose names begin so."""
    from meteor_bench.report.paper.numbers import papers

    return [name for name in papers() if name.startswith(incomplete)]


Source = Annotated[str | None, typer.Option(help="Folder or hub id of other weights for a row.")]
Stages = Annotated[str | None, typer.Option(help="Stages to run: encode,fuse,decode. [all]")]
Positions = Annotated[str | None, typer.Option(help="keep or renumber. [the method's own]")]
Tasks = Annotated[str | None, typer.Option(help="Benchmarks by name, separated by commas.")]
Limit = Annotated[int | None, typer.Option(help="Questions per benchmark. [all]")]
BatchSize = Annotated[int | None, typer.Option(help="Questions answered together. [64]")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [auto]")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16. [auto]")]
Seed = Annotated[int | None, typer.Option(help="Of everything that a method draws. [0]")]
Frames = Annotated[int | None, typer.Option(help="Of every video. [the model's own]")]
DataRoot = Annotated[Path | None, typer.Option(metavar="DIR", help="Data sets of the hub, as DIR/<org>/<repository>.")]
Online = Annotated[bool, typer.Option("--online", help="Let models and data be fetched from the hub.")]
How = Annotated[Format, typer.Option(help="How to print.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


def given(**flags: Any) -> dict[str, Any]:
    """The flags that were said."""
    return {name: value for name, value in flags.items() if value is not None}


def print_report(runs: list[Path], format: Format) -> None:
    """Print the tables of these runs."""
    from meteor_bench.report.render import document
    from meteor_bench.report.runs import load

    document(load(*runs)).write(sys.stdout, format.value)


def print_rows(rows: list[dict[str, Any]], json: bool, aside: tuple[str, ...] = ()) -> None:
    """Print a list, as a table or as JSON; what is long (``aside``) stands below the table, row by row."""
    from meteor_bench.report.rows import print_rows

    print_rows(rows, sys.stdout, as_json=json, aside=aside)
