"""`meteor-bench report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.options import Format, How, print_report

app = alone()


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
    from meteor_bench.utils.progress import detail

    detail("reading records")
    from meteor_bench.report.html.build import write
    from meteor_bench.report.runs import load
    from meteor_bench.runs.patches.report_pictures import draw

    write(load(*runs), path, pictures, draw)
    typer.echo(str(path))
