"""`meteor-bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.printing import Printing, printed

app = alone()


@app.command()
@printed()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of a run, or of runs.")],
    how: Printing,
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
        how.only_lines("--html")
        _write_html(runs, html, pictures)
    elif pictures:
        raise typer.BadParameter("pictures are drawn into a file; add --html FILE", param_hint="--pictures")
    else:
        from meteor_bench.report import render, subscores
        from meteor_bench.report.runs import load

        how.write((subscores if sub_scores else render).document(load(*runs)))


def _write_html(runs: list[Path], path: Path, pictures: int) -> None:
    from meteor_bench.utils.progress import detail

    detail("reading records")
    from meteor_bench.report.html.build import write
    from meteor_bench.report.runs import load
    from meteor_bench.runs.patches.report_pictures import draw

    write(load(*runs), path, pictures, draw)
    typer.echo(str(path))
