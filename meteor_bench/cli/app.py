"""The application itself: its groups of commands, its errors and exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.version import __version__

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


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C is one line and exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted: what was answered is kept; the same command goes on from there", err=True)
        raise typer.Exit(130) from None
