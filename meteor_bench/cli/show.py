"""`meteor-bench show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.completion import complete
from meteor_bench.cli.options import flags
from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.spec import read_text

app = alone()


@app.command()
@flags(RunConfig, "model", "source", "match", "stages", "positions", "device", "dtype", "seed", "data_root", "frames")
def show(
    sample: Annotated[str, typer.Argument(help="<benchmark>/<document>: pocket_gqa/12, my.jsonl/0.")],
    method: Annotated[
        list[str],
        typer.Option(
            metavar="METHOD", autocompletion=complete("methods"), help="Row of `list methods`; may be repeated."
        ),
    ],
    ratio: Annotated[
        list[str],
        typer.Option(metavar="FLOAT", help="Fraction of the visual tokens to remove; may be repeated."),
    ],
    said: dict[str, Any],
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="name=value of the method, method:name=value where there are several."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="PNG file. [<benchmark>-<document>.png]")] = None,
) -> None:
    """Draw which patches each encoder keeps at each stage for one question, with the answers.

    Several methods and ratios stand side by side. The last line is the picture's file.
    """
    from meteor_bench.runs.patches import command

    ratios = [read_text(RunConfig, "ratio", text) for text in ratio]
    watched = command.show(sample, command.settings(method, ratios, param or [], said), out)
    for line in command.told(watched):
        typer.echo(line)
    typer.echo(str(watched.path))
