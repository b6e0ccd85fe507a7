"""`meteor-bench doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.completion import complete
from meteor_bench.cli.printing import Json, print_rows
from meteor_bench.config.run_config import Dtype

app = alone()


@app.command()
def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Try every part: import the libraries, make methods, read weights.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            autocompletion=complete("models"),
            help="Check a model instead: row of `list models`, file of a composition, folder or hub id.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="For --model: folder or hub id of other weights for a row.")
    ] = None,
    device: Annotated[str, typer.Option(help="For --model: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="For --model: auto or a name.")] = "auto",
    json: Json = False,
) -> None:
    """Check the environment, or a model before a run, and say what would not work and why.

    A model's files, licence, memory, weights, tokenizer and template are looked at, and it answers with two tokens.
    """
    if model is None:
        from meteor_bench.runs.doctor import examine

        findings = examine(full=full)
    else:
        from meteor_bench.runs.checkpoint_doctor import examine_model

        findings = examine_model(model, device=device, dtype=dtype, source=source)
    print_rows([finding._asdict() for finding in findings], json)
    if any(finding.state == "fails" for finding in findings):
        raise typer.Exit(1)
