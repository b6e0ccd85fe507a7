"""`meteor-bench check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meteor_bench.cli.app import alone, resumable
from meteor_bench.cli.completion import complete
from meteor_bench.cli.options import flags
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.yaml_settings import fit_flags, names

app = alone()


@app.command()
@flags(RunConfig, "suite", "tasks", "model", "ratio", "match", "limit", "device", "data_root", defaults=False)
@printed(quietly=True)
def check(
    baseline: Annotated[Path, typer.Option(help="The baseline file.")],
    said: dict[str, Any],
    how: Printing,
    methods: Annotated[
        str | None,
        typer.Option(autocompletion=complete("methods", many=True), help="Methods, separated by commas."),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Accept: write the file, with these settings.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write the findings as JUnit XML.")] = None,
) -> None:
    """Compare a small run with a committed baseline: accuracy, tokens, FLOPs, latency. Exit status 1: a regression.

    The file says what is run and how far each number may move; its settings are changed with --update only.
    """
    named = fit_flags(said, RunConfig)
    root = named.pop("data_root", None)
    if methods is not None:
        named["methods"] = names(methods)
    from meteor_bench.runs.regression.command import check as run_check

    with resumable(lambda: "nothing is kept"):
        regressed = run_check(baseline, named, how.write, update=update, junit=junit, data_root=root)
    if regressed:
        raise typer.Exit(1)
