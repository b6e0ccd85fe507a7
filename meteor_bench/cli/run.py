"""`run` and `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meteor_bench.cli.app import app, resumable
from meteor_bench.cli.options import (
    BatchSize,
    DataRoot,
    Device,
    Dtype,
    Format,
    Frames,
    Limit,
    Online,
    Positions,
    Seed,
    Source,
    Stages,
    Tasks,
    complete_methods,
    complete_models,
    complete_suites,
    given,
    print_report,
)
from meteor_bench.core.errors import (
    MeteorBenchError,
    PluginError,
)

if TYPE_CHECKING:
    from meteor_bench.config.run_config import RunConfig

__all__ = ["run", "sweep"]


@app.command()
def run(
    model: Annotated[
        str | None,
        typer.Option(autocompletion=complete_models, help="Row of `list models`, folder or hub id. [pocket]"),
    ] = None,
    source: Source = None,
    method: Annotated[
        str | None, typer.Option(autocompletion=complete_methods, help="Row of `list methods`. [none]")
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value of the method; may be repeated.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Fraction of the visual tokens to remove, in [0, 1).")] = None,
    stages: Stages = None,
    positions: Positions = None,
    suite: Annotated[
        str | None, typer.Option(autocompletion=complete_suites, help="Benchmarks by suite. [pocket]")
    ] = None,
    tasks: Tasks = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    reuse: Annotated[
        bool | None, typer.Option("--reuse/--no-reuse", help="Share what depends on the picture alone. [yes]")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    seed: Seed = None,
    data_root: DataRoot = None,
    frames: Frames = None,
    skip_broken: Annotated[
        bool | None, typer.Option("--skip-broken", help="Go on past pictures that cannot be read; exit status 1.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of runs. [results/runs]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with these settings; flags win.")] = None,
    baseline: Annotated[
        bool | None, typer.Option("--baseline/--no-baseline", help="Also run the unpruned model. [yes]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    online: Online = False,
) -> None:
    """Run a model with a pruning method on benchmarks, beside the unpruned model.

    Ends with tables of accuracy, tokens and latency; the last line is the run's folder. A run that was interrupted
    goes on where it stopped when the same command is given again. Of processes that torchrun or accelerate launch
    started, each answers its share.
    """
    from meteor_bench.config.run_config import load
    from meteor_bench.config.yaml_settings import names, parameter
    from meteor_bench.models.locate import go_online

    if online:
        go_online()
    said = given(
        model=model,
        source=source,
        method=method,
        parameters=dict(parameter(text) for text in param) if param else None,
        ratio=ratio,
        stages=names(stages) if stages is not None else None,
        positions=positions,
        suite=suite,
        tasks=names(tasks) if tasks is not None else None,
        limit=limit,
        batch_size=batch_size,
        reuse=reuse,
        device=device,
        dtype=dtype,
        seed=seed,
        data_root=data_root,
        frames=frames,
        skip_broken=skip_broken,
        out=out,
        baseline=baseline,
    )
    _run(load(config, said), dry_run=dry_run)


def _run(settings: RunConfig, *, dry_run: bool) -> None:
    from meteor_bench.core.request import FAILED
    from meteor_bench.runs.distributed.process_group import joined
    from meteor_bench.runs.job import execute, help_out, plan
    from meteor_bench.runs.sweep.task import (
        kept_traceback,
    )

    with resumable():
        if dry_run:
            for line in plan(settings):
                typer.echo(line)
            return
        with joined() as ranks:
            if ranks is not None and not ranks.first:
                help_out(settings, ranks)
                return
            try:
                outcome = execute(settings, ranks=ranks)
            except MeteorBenchError:
                raise
            except Exception as error:  # of a method's, model's or benchmark's own code
                raise PluginError(kept_traceback(settings, error)) from error
    print_report([outcome.path], Format.TERMINAL)
    if outcome.failed:
        many = "samples" if outcome.failed > 1 else "sample"
        first = outcome.failure.removeprefix(FAILED)
        typer.echo(
            f"error: {outcome.failed} {many} could not be answered and count as wrong; the first: {first}", err=True
        )
    if outcome.missed:
        typer.echo(f"error: the budget was missed on {outcome.missed} samples, say {outcome.example}", err=True)
    typer.echo(str(outcome.path))
    if outcome.missed or outcome.failed:
        raise typer.Exit(1)


@app.command()
def sweep(
    file: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file with these settings; flags win.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Rows of `list methods` separated by commas; all for the whole table.")
    ] = None,
    ratios: Annotated[str | None, typer.Option(help="Fractions of the visual tokens to remove: 0.5,0.76.")] = None,
    models: Annotated[str | None, typer.Option(help="Rows of `list models`, folders or hub ids. [pocket]")] = None,
    source: Source = None,
    suite: Annotated[str | None, typer.Option(help="Benchmarks by suite, or several suites. [pocket]")] = None,
    tasks: Tasks = None,
    seeds: Annotated[str | None, typer.Option(help="Of methods that draw; the others take the first. [0,1,2]")] = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = None,
    data_root: DataRoot = None,
    out: Annotated[Path | None, typer.Option(help="Folder of runs. [results/runs]")] = None,
    latency: Annotated[bool | None, typer.Option("--latency/--no-latency", help="Also time each run. [yes]")] = None,
    engine: Annotated[str | None, typer.Option(help="sequential or ray. [sequential]")] = None,
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster. [a local one is started]")] = None,
    gpu_share: Annotated[float | None, typer.Option(help="GPUs that a cell holds under Ray. [1]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells with time and memory, and stop.")] = False,
    online: Online = False,
) -> None:
    """Run methods x ratios x models x suites x seeds, and print one table of all.

    Cells that are finished are not run again, and one that fails does not stop the others: it is listed at the end,
    with exit status 1. A sweep that was interrupted goes on where it stopped when the same command is given again.
    """
    from meteor_bench.models.locate import go_online
    from meteor_bench.runs.sweep import command

    if online:
        go_online()
    lists = {"methods": methods, "ratios": ratios, "models": models, "suites": suite, "tasks": tasks, "seeds": seeds}
    single: dict[str, Any] = {
        "source": source,
        "limit": limit,
        "batch_size": batch_size,
        "device": device,
        "dtype": dtype,
        "data_root": data_root,
        "out": out,
        "latency": latency,
        "engine": engine,
        "address": address,
        "gpu_share": gpu_share,
    }
    with resumable():
        code = command.sweep(file, lists, single, dry_run=dry_run)
    raise typer.Exit(code)
