"""`meteor-bench latency`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from meteor_bench.cli.app import alone
from meteor_bench.cli.options import flags
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.config.latency_config import LatencyConfig, load
from meteor_bench.utils.progress import detail

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
    of the records. The unpruned model is timed twice, with fast and with eager attention.
    """
    config = load(said)
    from meteor_bench.runs.latency.options import settings

    asked = settings(config, param or [])
    broken = False
    detail("loading libraries and weights")
    if config.count_launches:
        from meteor_bench.runs.latency import launch_tables
        from meteor_bench.runs.latency.launches import count_launches

        counted = count_launches(asked.configs, config.batches, random_weights=config.random_weights)
        how.write(launch_tables.document(counted))
        return
    if config.selection:
        from meteor_bench.runs.latency import selection_tables
        from meteor_bench.runs.latency.selection import time_selection

        timed = time_selection(asked.configs, config.tokens, config.batches, config.passes, asked.out)
        document = selection_tables.document(timed)
    else:
        from meteor_bench.runs.latency import tables
        from meteor_bench.runs.latency.command import time_cells

        cells = time_cells(asked)
        document = tables.document(cells)
        broken = any(row.broken for cell in cells for row in cell.rows)
    how.write(replace(document, tail=(str(asked.out),)))
    if broken:
        raise typer.Exit(1)
