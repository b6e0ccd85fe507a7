"""`meteor-bench paper`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from meteor_bench.cli.app import alone, resumable
from meteor_bench.cli.completion import complete
from meteor_bench.cli.options import flags
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.config.run_config import RunConfig, load

app = alone()


@app.command()
@flags(RunConfig, "out", "limit", "batch_size", "device")
@printed()
def paper(
    name: Annotated[
        str, typer.Argument(metavar="PAPER", autocompletion=complete("papers"), help="meteor, evoprune, ...")
    ],
    said: dict[str, Any],
    how: Printing,
    table: Annotated[str | None, typer.Option(help="Only this table of it.")] = None,
    model: Annotated[
        str | None,
        typer.Option(autocompletion=complete("models"), help="Whose runs. [the paper's if there are any, else pocket]"),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say which runs are missing and what they take.")] = False,
    run: Annotated[bool, typer.Option("--run", help="Do the missing runs first.")] = False,
) -> None:
    """A paper's tables and ablations again: our number beside the reported one, its source and how sure it is.

    Cells that were not measured stay empty. On another model than the paper's, the reported figures stand apart.
    """
    from meteor_bench.runs.paper import Request

    request = Request(name, load(None, said), table, model)
    with resumable():
        if plan:
            how.only_lines("--plan")
            raise typer.Exit(request.print_plan(sys.stdout))
        code = request.run_missing() if run else 0
    how.write(request.document())
    raise typer.Exit(code)
