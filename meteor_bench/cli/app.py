"""The application itself: its groups of commands, its errors and exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.interrupts import Terminated, exit_status, watched
from meteor_bench.core.version import __version__
from meteor_bench.utils.plain_text import visible
from meteor_bench.utils.process import prepare, told

__all__ = ["app", "data", "listing", "main", "resumable"]

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


def main() -> None:
    """Console entry point: a user's error becomes one line on stderr and exit status 2."""
    try:
        with watched(), told():
            prepare()
            code = app(standalone_mode=False, prog_name="meteor-bench")
    except MeteorBenchError as error:
        code = _fail(str(error))
    except typer.Abort as error:  # also what becomes of a signal outside `resumable`
        cause = error.__cause__ or error.__context__
        code = exit_status(cause) if isinstance(cause, KeyboardInterrupt) else 1
    except typer.TyperException as error:
        code = _fail(error.format_message())
    except OSError as error:
        if error.filename is None:
            raise
        code = _fail(f"{error.filename}: {error.strerror}")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    typer.echo("error: " + visible(" ".join(message.split())), err=True)
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


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C is one line and exit status 130, SIGTERM one and 143."""
    try:
        yield
    except KeyboardInterrupt as error:
        how = "terminated" if isinstance(error, Terminated) else "interrupted"
        typer.echo(f"{how}: what was answered is kept; the same command goes on from there", err=True)
        raise typer.Exit(exit_status(error)) from None
