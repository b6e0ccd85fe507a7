"""`meteor-bench report`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.report.by import By

if TYPE_CHECKING:
    from meteor_bench.report.runs import Cell

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
    methods: Annotated[
        str, typer.Option(metavar="A,B", help="Only these methods, by name, and the unpruned model.")
    ] = "",
    top: Annotated[
        int, typer.Option(min=0, metavar="K", help="At each ratio the K best averages and the controls. [0: all]")
    ] = 0,
    by: Annotated[By | None, typer.Option(help="Group methods by where they decide, or by year.")] = None,
) -> None:
    """Print the tables of a run, or of several together."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if methods and not names:
        raise typer.BadParameter(f"expected names separated by commas, found '{methods}'", param_hint="--methods")

    def choose(cells: list[Cell]) -> list[Cell]:
        from meteor_bench.report import choice

        if names:
            cells = choice.only(cells, names)
        if top:
            cells = choice.top(cells, top)
        return cells if by is None else choice.grouped(cells, by)

    if sub_scores and html is not None:
        raise typer.BadParameter("the page has no sub-scores; leave out --html", param_hint="--sub-scores")
    if html is not None:
        how.only_lines("--html")
        _write_html(runs, html, pictures, choose)
    elif pictures:
        raise typer.BadParameter("pictures are drawn into a file; add --html FILE", param_hint="--pictures")
    else:
        # Libraries and records are a million small objects that all stay: looking for cycles took a tenth of the time.
        gc.disable()
        try:
            from meteor_bench.report import render, subscores
            from meteor_bench.report.runs import load

            how.write((subscores if sub_scores else render).document(choose(load(*runs))))
        finally:
            gc.enable()


def _write_html(runs: list[Path], path: Path, pictures: int, choose: Callable[[list[Cell]], list[Cell]]) -> None:
    from meteor_bench.utils.progress import detail

    detail("reading records")
    from meteor_bench.report.html.build import write
    from meteor_bench.report.runs import load
    from meteor_bench.runs.patches.report_pictures import draw

    if left_out := write(choose(load(*runs)), path, pictures, draw):
        names = ", ".join(run.name for run in left_out)
        typer.echo(f"Not on the page, which is of accuracy, since agreement was measured: {names}.", err=True)
    typer.echo(str(path))
