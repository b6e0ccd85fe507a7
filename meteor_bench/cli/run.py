"""`meteor-bench run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meteor_bench.cli.app import alone, resumable
from meteor_bench.cli.options import Online, flags
from meteor_bench.cli.printing import Printing, printed
from meteor_bench.config.run_config import RunConfig, load
from meteor_bench.core.errors import MeteorBenchError, PluginError
from meteor_bench.models.locate import go_online

app = alone()


@app.command()
@flags(RunConfig)
@printed(quietly=True)
def run(
    said: dict[str, Any],
    how: Printing,
    config: Annotated[Path | None, typer.Option(help="YAML file with these settings; flags win.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    online: Online = False,
) -> None:
    """Run a model with a pruning method on benchmarks, beside the unpruned model.

    Ends with what it came to in three sentences and with tables of accuracy, tokens and latency; the last line is the
    run's folder. A run that was interrupted goes on where it stopped when the same command is given again. Of processes
    that torchrun or accelerate launch started, each answers its share.
    """
    if online:
        go_online()
    settings = load(config, said)
    with resumable():
        if dry_run:
            how.only_lines("--dry-run")
            _plan(settings)
        else:
            _run(settings, how)


def _plan(settings: RunConfig) -> None:
    from meteor_bench.utils.columns import folded, terminal_width
    from meteor_bench.utils.progress import detail

    detail("loading libraries")
    from meteor_bench.runs.job import plan

    for line in plan(settings):
        for part in folded(line, terminal_width(), indent=11):
            typer.echo(part)


def _run(settings: RunConfig, how: Printing) -> None:
    from meteor_bench.core.request import FAILED
    from meteor_bench.runs.distributed.process_group import joined
    from meteor_bench.runs.job import execute, help_out
    from meteor_bench.runs.sweep.task import kept_traceback

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
    from meteor_bench.report.closing import document

    how.write(document(outcome.path))
    if outcome.failed:
        many = "samples" if outcome.failed > 1 else "sample"
        first = outcome.failure.removeprefix(FAILED)
        typer.echo(
            f"error: {outcome.failed} {many} could not be answered and count as wrong; the first: {first}", err=True
        )
    if outcome.missed:
        typer.echo(f"error: the budget was missed on {outcome.missed} samples, say {outcome.example}", err=True)
    if outcome.missed or outcome.failed:
        raise typer.Exit(1)
