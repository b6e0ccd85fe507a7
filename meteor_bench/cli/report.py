"""What is made of records: `report`, `compare`, `paper`; and `show`, which draws one question."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meteor_bench.cli.app import app, resumable
from meteor_bench.cli.options import (
    DataRoot,
    Device,
    Dtype,
    Format,
    Frames,
    How,
    Limit,
    Positions,
    Seed,
    Source,
    Stages,
    complete_methods,
    complete_models,
    complete_papers,
    given,
    print_report,
)

__all__ = ["compare", "paper", "report", "show"]


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of a run, or of runs.")],
    format: How = Format.TERMINAL,
    html: Annotated[Path | None, typer.Option(help="Write one file with tables, charts and questions instead.")] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="With --html: draw the kept patches of so many questions; runs the models.")
    ] = 0,
    sub_scores: Annotated[
        bool, typer.Option("--sub-scores", help="Every metric and kind of question of each benchmark instead.")
    ] = False,
) -> None:
    """Print the tables of a run, or of several together."""
    if sub_scores and html is not None:
        raise typer.BadParameter("the page has no sub-scores; leave out --html", param_hint="--sub-scores")
    if html is not None:
        _write_html(runs, html, pictures)
    elif pictures:
        raise typer.BadParameter("pictures are drawn into a file; add --html FILE", param_hint="--pictures")
    elif sub_scores:
        from meteor_bench.report import subscores
        from meteor_bench.report.runs import load

        subscores.document(load(*runs)).write(sys.stdout, format.value)
    else:
        print_report(runs, format)


def _write_html(runs: list[Path], path: Path, pictures: int) -> None:
    from meteor_bench.report.html.build import write
    from meteor_bench.report.runs import load
    from meteor_bench.runs.patches.report_pictures import draw

    write(load(*runs), path, pictures, draw)
    typer.echo(str(path))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, or that of its seeds.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The run that it is compared with, on the same questions.")],
    samples: Annotated[bool, typer.Option("--samples", help="List the questions answered differently well.")] = False,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the patches kept for each of them into this folder.")
    ] = None,
    data_root: DataRoot = None,
    format: How = Format.TERMINAL,
) -> None:
    """Compare two runs question by question: differences, tests, flips."""
    from meteor_bench.cli.compare import run

    run(a, b, sys.stdout, format=format.value, samples=samples, pictures=pictures, data_root=data_root)


@app.command()
def show(
    sample: Annotated[str, typer.Argument(help="<benchmark>/<document>, say pocket_gqa/12.")],
    method: Annotated[
        list[str], typer.Option(autocompletion=complete_methods, help="Row of `list methods`; may be repeated.")
    ],
    ratio: Annotated[list[float], typer.Option(help="Fraction of the visual tokens to remove; may be repeated.")],
    param: Annotated[
        list[str] | None, typer.Option(help="name=value of the method, method:name=value where there are several.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(autocompletion=complete_models, help="Row of `list models`. [pocket]")
    ] = None,
    source: Source = None,
    stages: Stages = None,
    positions: Positions = None,
    device: Device = None,
    dtype: Dtype = None,
    seed: Seed = None,
    data_root: DataRoot = None,
    frames: Frames = None,
    out: Annotated[Path | None, typer.Option(help="PNG file. [<benchmark>-<document>.png]")] = None,
) -> None:
    """Draw which patches each encoder keeps at each stage for one question, with the answers.

    Several methods and ratios stand side by side. The last line is the picture's file.
    """
    from meteor_bench.config.yaml_settings import names
    from meteor_bench.runs.patches import command

    shared = given(
        model=model,
        source=source,
        stages=names(stages) if stages is not None else None,
        positions=positions,
        device=device,
        dtype=dtype,
        data_root=data_root,
        frames=frames,
        seed=seed,
    )
    watched = command.show(sample, command.settings(method, ratio, param or [], shared), out)
    for line in command.told(watched):
        typer.echo(line)
    typer.echo(str(watched.path))


@app.command()
def paper(
    name: Annotated[str, typer.Argument(metavar="PAPER", autocompletion=complete_papers, help="meteor, evoprune, ...")],
    table: Annotated[str | None, typer.Option(help="Only this table of it.")] = None,
    model: Annotated[
        str | None,
        typer.Option(autocompletion=complete_models, help="Whose runs. [the paper's if there are any, else pocket]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("results/runs"),
    format: How = Format.TERMINAL,
    plan: Annotated[bool, typer.Option("--plan", help="Say which runs are missing and what they take.")] = False,
    run: Annotated[bool, typer.Option("--run", help="Do the missing runs first.")] = False,
    limit: Limit = None,
    batch_size: Annotated[int, typer.Option(help="Questions answered together.")] = 64,
    device: Annotated[str, typer.Option(help="Where to run.")] = "auto",
) -> None:
    """A paper's tables and ablations again: our number beside the reported one, its source and how sure it is.

    Cells that were not measured stay empty. On another model than the paper's, the reported figures stand apart.
    """
    from meteor_bench.cli.paper import Request
    from meteor_bench.config.run_config import RunConfig

    base = RunConfig(out=out, limit=limit, batch_size=batch_size, device=device)
    base.validate()
    request = Request(name, base, table, model)
    with resumable():
        if plan:
            raise typer.Exit(request.print_plan(sys.stdout))
        code = request.run_missing() if run else 0
    request.print_tables(sys.stdout, format.value)
    raise typer.Exit(code)
