"""`meteor-bench compare`: read, compare, print, draw."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.options import flags
from meteor_bench.cli.printing import Format, Printing, printed
from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.yaml_settings import fit_flags
from meteor_bench.utils.progress import say

if TYPE_CHECKING:
    from meteor_bench.report.compare import Pair
    from meteor_bench.report.document import Document
    from meteor_bench.runs.patches.flips import Flip

app = alone()
PICTURES = 24  # so many are looked at; each takes a second and a file


@app.command()
@flags(RunConfig, "data_root")
@printed()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, or that of its seeds.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The run that it is compared with, on the same questions.")],
    said: dict[str, Any],
    how: Printing,
    samples: Annotated[bool, typer.Option("--samples", help="List the questions answered differently well.")] = False,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the patches kept for each of them into this folder.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="With --pictures: draw the first so many.")] = PICTURES,
) -> None:
    """Compare two runs question by question: differences, tests, flips."""
    root = fit_flags(said, RunConfig).get("data_root")
    run(a, b, sys.stdout, format=how.form.value, samples=samples, pictures=pictures, data_root=root, most=most)


def run(
    a: Path,
    b: Path,
    stream: IO[str],
    *,
    format: str,
    samples: bool = False,
    pictures: Path | None = None,
    data_root: Path | None = None,
    most: int = PICTURES,
) -> None:
    """Print the comparison of two runs.

    Args:
        format: "terminal" or one of `report.document.FORMATS`.
        samples: list the flips too.
        pictures: folder to draw the flips into.
        data_root: where their data are; by default where they were.
        most: how many are drawn; the first ones.

    Raises:
        MeteorBenchError: the runs cannot be read or compared.
    """
    from meteor_bench.report.compare import pair
    from meteor_bench.runs.patches.flips import draw, flips, print_flips

    compared = pair(a, b)
    found = flips(compared) if samples or pictures else []
    shown = found if samples else None
    made = _document(compared, shown, pictures, most)
    if format == Format.TERMINAL and shown:
        replace(made, tables=lambda: made.tables()[:1]).write(stream)
        print_flips(shown, stream, pictures=pictures, most=most)
    else:
        made.write(stream, format)
    if pictures:
        if len(found) > most:
            say(f"{len(found)} questions differ, the first {most} are drawn; --most {len(found)} draws all of them")
        drawn = found[:most]
        say(f"{draw(compared, drawn, pictures, data_root)} of {len(drawn)} pictures drawn into {pictures}")


def _document(compared: Pair, found: Sequence[Flip] | None, pictures: Path | None, most: int) -> Document:
    """The comparison, and the questions that flipped where they are asked for."""
    import pandas as pd

    from meteor_bench.report import formats
    from meteor_bench.report.compare import comparison, described, lay_out
    from meteor_bench.report.document import Document
    from meteor_bench.runs.patches.flips import rows, table

    frame = comparison(compared)
    numbers = {"comparison": frame} | ({} if found is None else {"samples": pd.DataFrame(rows(found, pictures, most))})
    tables = [lay_out(compared, frame), *([table(found, pictures, most)] if found is not None else [])]
    told = {**described(compared), "tables": {name: formats.json_rows(part) for name, part in numbers.items()}}
    return Document(lambda: tables, lambda: numbers, ("kind", "name", "sample"), lambda: told)
