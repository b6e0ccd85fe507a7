"""The application itself: its commands, its errors and exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.interrupts import Terminated, exit_status, watched
from meteor_bench.core.version import __version__
from meteor_bench.utils.plain_text import visible
from meteor_bench.utils.process import prepare, told

__all__ = ["COMMANDS", "alone", "app", "group", "main", "resumable", "stopped"]

# In the order of --help, each with the first line of its own; the file of that name in this folder is imported when the
# command is asked for.
COMMANDS = {
    "run": "Run a model with a pruning method on benchmarks, beside the unpruned model.",
    "sweep": "Run methods x ratios x models x suites x seeds, and print one table of all.",
    "choose": "Choose a method and a ratio for a drop, a speed-up or a number of tokens that you name.",
    "report": "Print the tables of a run, or of several together.",
    "compare": "Compare two runs question by question: differences, tests, flips.",
    "show": "Draw which patches each encoder keeps at each stage for one question, with the answers.",
    "paper": "A paper's tables and ablations again: our number beside the reported one, its source and how sure it is.",
    "latency": "Time methods beside the unpruned model, interleaved in one process.",
    "check": "Compare a small run with a committed baseline: accuracy, tokens, FLOPs, latency. Exit status 1: a "
    "regression.",
    "doctor": "Check the environment, or a model before a run, and say what would not work and why.",
    "list": "What there is to choose from.",
    "data": "Data sets of the hub, in a folder.",
}


class _Lazy(TyperGroup):
    """Commands by name and help; the one that is asked for becomes itself."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, text in COMMANDS.items():
            self.add_command(TyperCommand(name, help=text, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """As Typer's, with the command's module imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else typer.main.get_command(_module(name).app), rest

    def invoke(self, ctx: Any) -> Any:
        """As Typer's, which would end with 130 and no word whatever the signal was."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise stopped(error) from None


def _module(name: str) -> Any:
    return import_module(f"meteor_bench.cli.{name}")


def group(help: str) -> typer.Typer:
    """A command that has commands."""
    made = typer.Typer(help=help, invoke_without_command=True, add_completion=False, rich_markup_mode=None)
    made.callback()(_help)
    return made


def alone() -> typer.Typer:
    """A command of its own; its function is registered with ``@app.command()``."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main() -> None:
    """Console entry point: a user's error becomes one line on stderr and exit status 2."""
    try:
        with watched(), told():
            prepare()
            code = app(standalone_mode=False, prog_name="meteor-bench")
    except MeteorBenchError as error:
        code = _fail(str(error))
    except typer.Abort:
        code = 1
    except KeyboardInterrupt as error:  # before a command begins, or after it
        code = stopped(error).exit_code
    except typer.TyperException as error:
        # "Value error, " is pydantic's, through which Typer checks choices; it tells a user nothing.
        code = _fail(error.format_message().replace(": Value error, ", ": ", 1))
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


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app = typer.Typer(
    name="meteor-bench",
    help="Benchmark visual-token pruning in multi-encoder vision-language models.",
    cls=_Lazy,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    _help(context)


def stopped(error: KeyboardInterrupt, left: str = "") -> typer.Exit:
    """Ctrl-C is one line and exit status 130, SIGTERM one and 143.

    Args:
        left: what is left of what was done, and how to go on.
    """
    how = "terminated" if isinstance(error, Terminated) else "interrupted"
    typer.echo(f"{how}: {left}" if left else how, err=True)
    return typer.Exit(exit_status(error))


def _answers() -> str:
    return "what was answered is kept; the same command goes on from there"


@contextmanager
def resumable(left: Callable[[], str] = _answers) -> Iterator[None]:
    """Inside, what ends the command also says what is left of it, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise stopped(error, left()) from None
