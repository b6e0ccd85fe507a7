"""`meteor-bench doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.options import Json, print_rows

app = alone()


@app.command()
def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Try every part: import the libraries, make methods, read weights.")
    ] = False,
    json: Json = False,
) -> None:
    """Check the environment, and say what would not work and why."""
    from meteor_bench.runs.doctor import examine

    findings = examine(full=full)
    print_rows([finding._asdict() for finding in findings], json)
    if any(finding.state == "fails" for finding in findings):
        raise typer.Exit(1)
