"""The command line. Nothing heavy is imported before a command is known; see ruff's TID253."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from meteor_bench import __version__
from meteor_bench.errors import MeteorBenchError

__all__ = ["app", "main"]

app = typer.Typer(
    name="meteor-bench",
    help="Benchmark visual-token pruning in multi-encoder vision-language models.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
listing = typer.Typer(help="What there is to choose from.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(listing, name="list")
data = typer.Typer(help="Data sets of the hub, in a folder.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(data, name="data")


class Format(StrEnum):
    """How tables are printed."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


def main() -> None:
    """Console entry point: a user's error becomes one line on stderr and exit status 2."""
    try:
        code = app(standalone_mode=False, prog_name="meteor-bench")
    except MeteorBenchError as error:
        code = _fail(str(error))
    except typer.Abort:
        code = 1
    except typer.TyperException as error:
        code = _fail(error.format_message())
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    typer.echo("error: " + " ".join(message.split()), err=True)
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"meteor-bench {__version__}")
        raise typer.Exit


@listing.callback()
@data.callback()
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    _help(context)


def _complete_models(incomplete: str) -> list[str]:
    from meteor_bench.registry import MODELS

    return [name for name in MODELS.names() if name.startswith(incomplete)]


def _complete_methods(incomplete: str) -> list[str]:
    from meteor_bench.registry import METHODS

    return [name for name in METHODS.names() if name.startswith(incomplete)]


def _complete_suites(incomplete: str) -> list[str]:
    from meteor_bench.suites import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


@app.command()
def run(
    model: Annotated[
        str | None,
        typer.Option(autocompletion=_complete_models, help="Row of `list models`, folder or hub id. [pocket]"),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Folder or hub id of other weights for a row.")] = None,
    method: Annotated[
        str | None, typer.Option(autocompletion=_complete_methods, help="Row of `list methods`. [none]")
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value of the method; may be repeated.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Fraction of the visual tokens to remove, in [0, 1).")] = None,
    stages: Annotated[str | None, typer.Option(help="Stages to run: encode,fuse,decode. [all]")] = None,
    positions: Annotated[str | None, typer.Option(help="keep or renumber. [the method's own]")] = None,
    suite: Annotated[
        str | None, typer.Option(autocompletion=_complete_suites, help="Benchmarks by suite. [pocket]")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="Benchmarks by name, separated by commas.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions per benchmark. [all]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions answered together. [64]")] = None,
    reuse: Annotated[
        bool | None, typer.Option("--reuse/--no-reuse", help="Share what depends on the picture alone. [yes]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [auto]")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16. [auto]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that a method draws. [0]")] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data sets of the hub, as DIR/<org>/<repository>.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of every video. [the model's own]")] = None,
    skip_broken: Annotated[
        bool | None, typer.Option("--skip-broken", help="Go on past pictures that cannot be read; exit status 1.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of runs. [results/runs]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with these settings; flags win.")] = None,
    baseline: Annotated[
        bool | None, typer.Option("--baseline/--no-baseline", help="Also run the unpruned model. [yes]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Let models and data be fetched from the hub.")] = False,
) -> None:
    """Run a model with a pruning method on benchmarks, beside the unpruned model.

    Ends with tables of accuracy, tokens and latency; the last line is the run's folder. A run that was interrupted
    goes on where it stopped when the same command is given again. Of processes that torchrun or accelerate launch
    started, each answers its share.
    """
    from meteor_bench.config import RunConfig, load, names, parameter
    from meteor_bench.locate import go_online

    if online:
        go_online()
    given: dict[str, Any] = {
        "model": model,
        "source": source,
        "method": method,
        "parameters": dict(parameter(text) for text in param) if param else None,
        "ratio": ratio,
        "stages": names(stages) if stages is not None else None,
        "positions": positions,
        "suite": suite,
        "tasks": names(tasks) if tasks is not None else None,
        "limit": limit,
        "batch_size": batch_size,
        "reuse": reuse,
        "device": device,
        "dtype": dtype,
        "seed": seed,
        "data_root": data_root,
        "frames": frames,
        "skip_broken": skip_broken,
        "out": out,
        "baseline": baseline,
    }
    settings: RunConfig = load(config, {name: value for name, value in given.items() if value is not None})
    _run(settings, dry_run=dry_run)


def _run(settings: Any, *, dry_run: bool) -> None:
    from meteor_bench.ranks.group import joined
    from meteor_bench.ranks.share import help_out
    from meteor_bench.run import execute, plan

    with _resumable():
        if dry_run:
            for line in plan(settings):
                typer.echo(line)
            return
        with joined() as ranks:
            if ranks is not None and not ranks.first:
                help_out(settings, ranks)
                return
            outcome = execute(settings, ranks=ranks)
    _print_report([outcome.path], Format.TERMINAL)
    if outcome.failed:
        typer.echo(f"error: {outcome.failed} samples could not be read and count as wrong: {outcome.failure}", err=True)
    if outcome.missed:
        typer.echo(f"error: the budget was missed on {outcome.missed} samples, say {outcome.example}", err=True)
    typer.echo(str(outcome.path))
    if outcome.missed or outcome.failed:
        raise typer.Exit(1)


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C is one line and exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted: what was answered is kept; the same command goes on from there", err=True)
        raise typer.Exit(130) from None


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
    source: Annotated[str | None, typer.Option(help="Folder or hub id of other weights for a row.")] = None,
    suite: Annotated[str | None, typer.Option(help="Benchmarks by suite, or several suites. [pocket]")] = None,
    tasks: Annotated[str | None, typer.Option(help="Benchmarks by name, separated by commas.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Of methods that draw; the others take the first. [0,1,2]")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions per benchmark. [all]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions answered together. [64]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [auto]")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16. [auto]")] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data sets of the hub, as DIR/<org>/<repository>.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of runs. [results/runs]")] = None,
    latency: Annotated[bool | None, typer.Option("--latency/--no-latency", help="Also time each run. [yes]")] = None,
    engine: Annotated[str | None, typer.Option(help="sequential or ray. [sequential]")] = None,
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster. [a local one is started]")] = None,
    gpu_share: Annotated[float | None, typer.Option(help="GPUs that a cell holds under Ray. [1]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells with time and memory, and stop.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Let models and data be fetched from the hub.")] = False,
) -> None:
    """Run methods x ratios x models x suites x seeds, and print one table of all.

    Cells that are finished are not run again, and one that fails does not stop the others: it is listed at the end,
    with exit status 1. A sweep that was interrupted goes on where it stopped when the same command is given again.
    """
    from meteor_bench.locate import go_online
    from meteor_bench.sweep import command

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
    with _resumable():
        code = command.sweep(file, lists, single, dry_run=dry_run)
    raise typer.Exit(code)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of a run, or of runs.")],
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TERMINAL,
    html: Annotated[Path | None, typer.Option(help="Write one file with tables, charts and questions instead.")] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="With --html: draw the kept patches of so many questions; runs the models.")
    ] = 0,
) -> None:
    """Print the tables of a run, or of several together."""
    if html is not None:
        _write_html(runs, html, pictures)
    elif pictures:
        raise typer.BadParameter("pictures are drawn into a file; add --html FILE", param_hint="--pictures")
    else:
        _print_report(runs, format)


def _write_html(runs: list[Path], path: Path, pictures: int) -> None:
    from meteor_bench.report.cells import load
    from meteor_bench.report.html.build import write

    write(load(*runs), path, pictures)
    typer.echo(str(path))


def _print_report(runs: list[Path], format: Format) -> None:
    from meteor_bench.report import render
    from meteor_bench.report.cells import load

    cells = load(*runs)
    if format is Format.TERMINAL:
        render.as_terminal(cells, sys.stdout)
    else:
        typer.echo(render.FORMATS[format.value](cells), nl=False)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, or that of its seeds.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The run that it is compared with, on the same questions.")],
    samples: Annotated[bool, typer.Option("--samples", help="List the questions answered differently well.")] = False,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the patches kept for each of them into this folder.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data sets of the hub, as DIR/<org>/<repository>.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TERMINAL,
) -> None:
    """Compare two runs question by question: differences, tests, flips."""
    from meteor_bench.compare_command import run

    run(a, b, sys.stdout, format=format.value, samples=samples, pictures=pictures, data_root=data_root)


@app.command()
def show(
    sample: Annotated[str, typer.Argument(help="<benchmark>/<document>, say pocket_gqa/12.")],
    method: Annotated[
        list[str], typer.Option(autocompletion=_complete_methods, help="Row of `list methods`; may be repeated.")
    ],
    ratio: Annotated[list[float], typer.Option(help="Fraction of the visual tokens to remove; may be repeated.")],
    param: Annotated[
        list[str] | None, typer.Option(help="name=value of the method, method:name=value where there are several.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(autocompletion=_complete_models, help="Row of `list models`. [pocket]")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Folder or hub id of other weights for the model.")] = None,
    stages: Annotated[str | None, typer.Option(help="Stages to run: encode,fuse,decode. [all]")] = None,
    positions: Annotated[str | None, typer.Option(help="keep or renumber. [the method's own]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [auto]")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16. [auto]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that a method draws. [0]")] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data sets of the hub, as DIR/<org>/<repository>.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of every video. [the model's own]")] = None,
    out: Annotated[Path | None, typer.Option(help="PNG file. [<benchmark>-<document>.png]")] = None,
) -> None:
    """Draw which patches each encoder keeps at each stage for one question, with the answers.

    Several methods and ratios stand side by side. The last line is the picture's file.
    """
    from meteor_bench.config import names
    from meteor_bench.show import command

    given: dict[str, Any] = {
        "model": model,
        "source": source,
        "positions": positions,
        "device": device,
        "dtype": dtype,
        "data_root": data_root,
        "frames": frames,
        "seed": seed,
    }
    given |= {"stages": names(stages) if stages is not None else None}
    shared = {name: value for name, value in given.items() if value is not None}
    watched = command.show(sample, command.settings(method, ratio, param or [], shared), out)
    for line in command.told(watched):
        typer.echo(line)
    typer.echo(str(watched.path))


@app.command()
def latency(
    model: Annotated[
        str, typer.Option(autocompletion=_complete_models, help="Row of `list models`, or a checkpoint.")
    ] = "pocket",
    source: Annotated[str | None, typer.Option(help="Folder or hub id of other weights for the model.")] = None,
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
    tokens: Annotated[int, typer.Option(help="For --selection: visual tokens of a picture.")] = 1024,
    out: Annotated[
        Path | None, typer.Option(help="Folder; what is finished there is kept. [results/runs/latency/<time>-<model>]")
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TERMINAL,
) -> None:
    """Time methods beside the unpruned model, interleaved in one process.

    Stage by stage, with percentiles, memory and FLOPs, for each ratio and batch size; ends with tables and the folder
    of the records. The unpruned model is timed twice, with fast and with eager attention.
    """
    from meteor_bench.latency import options as bench

    shared = {"model": model, "source": source, "device": device, "dtype": dtype, "seed": seed}
    ratios, untrained = bench.numbers("--ratio", ratio, float), random_weights or selection
    chosen = bench.configs(methods, ratios, param or [], shared, untrained=untrained)
    folder = out or bench.new_folder("selection" if selection else model)
    sizes = bench.numbers("--batch", batch, int)
    if selection:
        from meteor_bench.latency import selection_tables
        from meteor_bench.latency.selection import time_selection

        _print_tables(selection_tables, time_selection(chosen, tokens, sizes, passes, folder), format)
    else:
        from meteor_bench.latency import tables
        from meteor_bench.latency.command import time_cells

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
        _print_tables(tables, time_cells(settings), format)
    if format is Format.TERMINAL:
        typer.echo(str(folder))


def _print_tables(tables: Any, found: Any, format: Format) -> None:
    """By a module that has `as_terminal` and `FORMATS`."""
    if format is Format.TERMINAL:
        tables.as_terminal(found, sys.stdout)
    else:
        typer.echo(tables.FORMATS[format.value](found), nl=False)


Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@listing.command("methods")
def _methods(json: Json = False) -> None:
    """Pruning methods: where they act and what they need."""
    from meteor_bench.catalogue import methods

    _print_rows(methods(), json, aside=("paper", "substitutes", "parameters"))


@listing.command("models")
def _models(json: Json = False) -> None:
    """Models: encoders, fusion, tokens, licence."""
    from meteor_bench.catalogue import models, unsupported

    _print_rows(models(), json, aside=("encoders", "llm", "weights", "note"))
    if not json:
        typer.echo(unsupported())


@listing.command("tasks")
def _tasks(
    json: Json = False,
    suite: Annotated[str | None, typer.Option(autocompletion=_complete_suites, help="Only those of a suite.")] = None,
) -> None:
    """Benchmarks: group, metric, number of questions, suites, data, what to know."""
    from meteor_bench.catalogue import tasks

    _print_rows(tasks(suite), json, aside=("metric", "suites", "dataset", "reported", "note"))


def _complete_papers(incomplete: str) -> list[str]:
    from meteor_bench.paper.numbers import papers

    return [name for name in papers() if name.startswith(incomplete)]


@app.command()
def paper(
    name: Annotated[
        str, typer.Argument(metavar="PAPER", autocompletion=_complete_papers, help="meteor, evoprune, ...")
    ],
    table: Annotated[str | None, typer.Option(help="Only this table of it.")] = None,
    model: Annotated[
        str | None,
        typer.Option(autocompletion=_complete_models, help="Whose runs. [the paper's if there are any, else pocket]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("results/runs"),
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.TERMINAL,
    plan: Annotated[bool, typer.Option("--plan", help="Say which runs are missing and what they take.")] = False,
    run: Annotated[bool, typer.Option("--run", help="Do the missing runs first.")] = False,
    limit: Annotated[int | None, typer.Option(help="Questions per benchmark. [all]")] = None,
    batch_size: Annotated[int, typer.Option(help="Questions answered together.")] = 64,
    device: Annotated[str, typer.Option(help="Where to run.")] = "auto",
) -> None:
    """A paper's tables and ablations again: our number beside the reported one, its source and how sure it is.

    Cells that were not measured stay empty. On another model than the paper's, the reported figures stand apart.
    """
    from meteor_bench.config import RunConfig
    from meteor_bench.paper.command import Request

    base = RunConfig(out=out, limit=limit, batch_size=batch_size, device=device)
    base.validate()
    request = Request(name, base, table, model)
    try:
        if plan:
            raise typer.Exit(request.print_plan(sys.stdout))
        code = request.run_missing() if run else 0
    except KeyboardInterrupt:
        typer.echo("interrupted: what was answered is kept; the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    request.print_tables(sys.stdout, format.value)
    raise typer.Exit(code)


@app.command()
def check(
    baseline: Annotated[Path, typer.Option(help="The baseline file.")],
    suite: Annotated[str | None, typer.Option(autocompletion=_complete_suites, help="Benchmarks by suite.")] = None,
    model: Annotated[str | None, typer.Option(autocompletion=_complete_models, help="Row of `list models`.")] = None,
    methods: Annotated[str | None, typer.Option(help="Methods, separated by commas.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Fraction of the visual tokens that all of them remove.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions per benchmark.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to run.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data sets of the hub, as DIR/<org>/<repository>.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Accept: write the file, with these settings.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write the findings as JUnit XML.")] = None,
) -> None:
    """Compare a small run with a committed baseline: accuracy, tokens, FLOPs, latency. Exit status 1: a regression.

    The file says what is run and how far each number may move; its settings are changed with --update only.
    """
    from meteor_bench.check.command import check as run_check
    from meteor_bench.config import names

    given: dict[str, Any] = {
        "suite": suite,
        "model": model,
        "methods": names(methods) if methods is not None else None,
        "ratio": ratio,
        "limit": limit,
        "device": device,
    }
    named = {name: value for name, value in given.items() if value is not None}
    try:
        regressed = run_check(baseline, named, sys.stdout, update=update, junit=junit, data_root=data_root)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
    if regressed:
        raise typer.Exit(1)


DataRoot = Annotated[Path, typer.Option(metavar="DIR", help="The data root, later given to `run --data-root`.")]
DataSuite = Annotated[str | None, typer.Option(autocompletion=_complete_suites, help="Benchmarks by suite.")]
DataTasks = Annotated[str | None, typer.Option("--task", "--tasks", help="Benchmarks by name, separated by commas.")]


@data.command("fetch")
def _fetch(root: DataRoot, suite: DataSuite = None, task: DataTasks = None) -> None:
    """Fetch data sets of the hub into a folder, from which `run --data-root` reads offline.

    Goes on where it was interrupted. A token (HF_TOKEN) is used only for data sets whose licence asks for one. Exit
    status 2: something could not be fetched, or is not what the benchmarks expect.
    """
    from meteor_bench.data import command

    raise typer.Exit(command.fetch(root, suite, task, sys.stderr))


@data.command("check")
def _check_data(root: DataRoot, suite: DataSuite = None, task: DataTasks = None, json: Json = False) -> None:
    """Compare a folder of fetched data with its manifest and the benchmarks. Exit status 2: something is wrong."""
    from meteor_bench.data import command

    raise typer.Exit(command.check(root, suite, task, sys.stdout, sys.stderr, as_json=json))


@app.command()
def doctor(json: Json = False) -> None:
    """Check the environment, and say what would not work and why."""
    from meteor_bench.doctor import examine

    findings = examine()
    _print_rows([finding._asdict() for finding in findings], json)
    if any(finding.state == "fails" for finding in findings):
        raise typer.Exit(1)


def _print_rows(rows: list[dict[str, Any]], json: bool, aside: tuple[str, ...] = ()) -> None:
    from meteor_bench.report.rows import print_rows

    print_rows(rows, sys.stdout, as_json=json, aside=aside)
