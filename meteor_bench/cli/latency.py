"""`meteor-bench latency`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meteor_bench.cli.app import alone, resumable
from meteor_bench.cli.options import flags
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.config.latency_config import LatencyConfig, load
from meteor_bench.utils.progress import detail

if TYPE_CHECKING:
    from meteor_bench.report.document import Document
    from meteor_bench.runs.latency.options import Settings

app = alone()


@app.command()
@flags(LatencyConfig)
@printed(quietly=True)
def latency(
    said: dict[str, Any],
    how: Printing,
    param: Annotated[
        list[str] | None, typer.Option(metavar="METHOD:NAME=VALUE", help="method:name=value; may be repeated.")
    ] = None,
) -> None:
    """Time methods beside the unpruned model, interleaved in one process.

    Stage by stage, with percentiles, memory and FLOPs, for each ratio and batch size; ends with tables and the folder
    of the records. The unpruned model is timed twice, with fast and with eager attention. A run that was interrupted
    goes on where it stopped when the same command is given again with the same --out.
    """
    config = load(said)
    from meteor_bench.runs.latency.options import settings

    asked = settings(config, param or [])
    with resumable(lambda: _left(asked, config.out)):
        detail("loading libraries and weights")
        document, broken = _measured(asked)
    how.write(document)
    if broken:
        raise typer.Exit(1)


def _measured(asked: Settings) -> tuple[Document, bool]:
    """What is printed, and whether a contender broke."""
    if asked.count_launches:
        from meteor_bench.runs.latency import launch_tables
        from meteor_bench.runs.latency.launches import count_launches

        counted = count_launches(asked.configs, asked.batches, random_weights=asked.random_weights)
        return launch_tables.document(counted), False
    if asked.selection:
        from meteor_bench.runs.latency import selection_tables
        from meteor_bench.runs.latency.selection import time_selection

        timed = time_selection(asked.configs, asked.tokens, asked.batches, asked.passes, asked.out)
        return replace(selection_tables.document(timed), tail=(str(asked.out),)), False
    from meteor_bench.runs.latency import tables
    from meteor_bench.runs.latency.command import time_cells

    cells = time_cells(asked)
    broken = any(row.broken for cell in cells for row in cell.rows)
    return replace(tables.document(cells), tail=(str(asked.out),)), broken


def _left(asked: Settings, named: Path | None) -> str:
    """What is left where the command was ended before its end.

    Args:
        named: the folder that the user named.
    """
    from meteor_bench.runs.latency.records import cell_files

    if asked.selection and (asked.out / "selection.json").exists():
        return f"what is finished is in {asked.out}; the same command begins anew"
    if asked.count_launches or asked.selection or not cell_files(asked.out):
        return "nothing is kept; the same command begins anew"
    again = "the same command" if named else f"the same command with --out {asked.out}"
    return f"what is finished is kept in {asked.out}; {again} goes on from there"
