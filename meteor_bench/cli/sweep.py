"""`meteor-bench sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meteor_bench.cli.app import alone, resumable
from meteor_bench.cli.options import Online, flags
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.config.sweep_config import SweepConfig, load
from meteor_bench.models.locate import go_online

app = alone()


@app.command()
@flags(SweepConfig)
@printed(quietly=True)
def sweep(
    said: dict[str, Any],
    how: Printing,
    file: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file with these settings; flags win.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells with time and memory, and stop.")] = False,
    online: Online = False,
) -> None:
    """Run methods x ratios x models x suites x seeds, and print one table of all.

    Cells that are finished are not run again, and one that fails does not stop the others: it is listed at the end,
    with exit status 1. A sweep that was interrupted goes on where it stopped when the same command is given again.
    """
    if online:
        go_online()
    config = load(file, said)
    from meteor_bench.runs.sweep import command

    with resumable():
        if dry_run:
            how.only_lines("--dry-run")
        code = command.plan(config) if dry_run else command.sweep(config, how.write)
    raise typer.Exit(code)
