"""`latency` and `check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meteor_bench.cli.app import app
from meteor_bench.cli.options import (
    DataRoot,
    Format,
    How,
    Source,
    complete_models,
    complete_suites,
    given,
    print_tables,
)

__all__ = ["check", "latency"]


@app.command()
def latency(
    model: Annotated[
        str, typer.Option(autocompletion=complete_models, help="Row of `list models`, or a checkpoint.")
    ] = "pocket",
    source: Source = None,
    methods: Annotated[str, typer.Option(help="Rows of `list methods`, separated by commas, or all.")] = "all",
    param: Annotated[list[str] | None, typer.Option(help="method:name=value; may be repeated.")] = None,
    ratio: Annotated[str, typer.Option(help="Fractions of the visual tokens to remove, separated by commas.")] = "0.76",
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1",
    frames: Annotated[int, typer.Option(help="Pictures of a sample; above 1 a clip.")] = 1,
    new_tokens: Annotated[int, typer.Option(help="Tokens generated, end tokens ignored.")] = 8,
    passes: Annotated[int, typer.Option(help="Timed passes of each method.")] = 20,
    warmup: Annotated[int, typer.Option(help="Passes before them that are thrown away.")] = 3,
    seconds: Annotated[float | None, typer.Option(help="Begin no new round after that time, per cell.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything that a method draws.")] = 0,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="The model at its real size, without its weights.")
    ] = False,
    selection: Annotated[
        bool, typer.Option("--selection", help="Only what choosing costs, beside a ViT-L that encodes as many tokens.")
    ] = False,
    count: Annotated[
        bool,
        typer.Option("--count-launches", help="Only count what a GPU would be sent, without one; eagle-x5-7b narrow."),
    ] = False,
    tokens: Annotated[int, typer.Option(help="For --selection: visual tokens of a picture.")] = 1024,
    out: Annotated[
        Path | None, typer.Option(help="Folder; what is finished there is kept. [results/runs/latency/<time>-<model>]")
    ] = None,
    format: How = Format.TERMINAL,
) -> None:
    """Time methods beside the unpruned model, interleaved in one process.

    Stage by stage, with percentiles, memory and FLOPs, for each ratio and batch size; ends with tables and the folder
    of the records. The unpruned model is timed twice, with fast and with eager attention.
    """
    from meteor_bench.runs.latency import options as bench

    shared = {"model": model, "source": source, "device": device, "dtype": dtype, "seed": seed}
    ratios, untrained = bench.numbers("--ratio", ratio, float), random_weights or selection or count
    chosen = bench.configs(methods, ratios, param or [], shared, untrained=untrained)
    sizes = bench.numbers("--batch", batch, int)
    if count:
        from meteor_bench.runs.latency import launch_tables
        from meteor_bench.runs.latency.launches import count_launches

        print_tables(launch_tables, count_launches(chosen, sizes, random_weights=random_weights), format)
        return
    folder = out or bench.new_folder("selection" if selection else model)
    broken = False
    if selection:
        from meteor_bench.runs.latency import selection_tables
        from meteor_bench.runs.latency.selection import time_selection

        print_tables(selection_tables, time_selection(chosen, tokens, sizes, passes, folder), format)
    else:
        from meteor_bench.runs.latency import tables
        from meteor_bench.runs.latency.command import time_cells

        settings = bench.Settings(
            chosen,
            folder,
            skip=methods.strip() == bench.ALL,
            batches=tuple(sizes),
            frames=frames,
            new_tokens=new_tokens,
            passes=passes,
            warmup=warmup,
            seconds=seconds,
            random_weights=random_weights,
        )
        cells = time_cells(settings)
        print_tables(tables, cells, format)
        broken = any(row.broken for cell in cells for row in cell.rows)
    if format is Format.TERMINAL:
        typer.echo(str(folder))
    if broken:
        raise typer.Exit(1)


@app.command()
def check(
    baseline: Annotated[Path, typer.Option(help="The baseline file.")],
    suite: Annotated[str | None, typer.Option(autocompletion=complete_suites, help="Benchmarks by suite.")] = None,
    model: Annotated[str | None, typer.Option(autocompletion=complete_models, help="Row of `list models`.")] = None,
    methods: Annotated[str | None, typer.Option(help="Methods, separated by commas.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Fraction of the visual tokens that all of them remove.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions per benchmark.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to run.")] = None,
    data_root: DataRoot = None,
    update: Annotated[bool, typer.Option("--update", help="Accept: write the file, with these settings.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write the findings as JUnit XML.")] = None,
) -> None:
    """Compare a small run with a committed baseline: accuracy, tokens, FLOPs, latency. Exit status 1: a regression.

    The file says what is run and how far each number may move; its settings are changed with --update only.
    """
    from meteor_bench.config.yaml_settings import names
    from meteor_bench.core.interrupts import exit_status
    from meteor_bench.runs.regression.command import check as run_check

    named = given(
        suite=suite,
        model=model,
        methods=names(methods) if methods is not None else None,
        ratio=ratio,
        limit=limit,
        device=device,
    )
    try:
        regressed = run_check(baseline, named, sys.stdout, update=update, junit=junit, data_root=data_root)
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(exit_status(error)) from None
    if regressed:
        raise typer.Exit(1)
