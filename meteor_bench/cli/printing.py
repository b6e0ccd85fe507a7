"""How commands print: the flags --format, --json and --quiet, the same wherever they are, and what they do.

Tables go to standard output, progress and what went wrong to standard error. With ``--json`` standard output holds one
JSON document and nothing else; with ``--quiet`` only what went wrong is said, and where the results are.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meteor_bench.cli.options import with_parameters
from meteor_bench.utils.progress import quiet

if TYPE_CHECKING:
    from meteor_bench.report.document import Document

__all__ = ["Format", "Json", "Printing", "print_rows", "printed"]


class Format(StrEnum):
    """How tables are printed."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
_FLAGS: dict[str, Any] = {
    "format": Annotated[Format | None, typer.Option(help="How to print. [terminal]", show_default=False)],
    "json": Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")],
    "quiet": Annotated[bool, typer.Option("--quiet", help="Say only what went wrong and where the results are.")],
}
Command = Callable[..., Any]


@dataclass(frozen=True)
class Printing:
    """What the user asked for.

    Attributes:
        form: how tables are printed.
        quiet: whether they are left out where a person would read them.
    """

    form: Format = Format.TERMINAL
    quiet: bool = False

    @property
    def for_people(self) -> bool:
        """Whether lines beside the tables may be printed."""
        return self.form is Format.TERMINAL

    def write(self, document: Document) -> None:
        """Print tables; none where only the place of the results is asked for."""
        if self.quiet and self.form is Format.TERMINAL:
            document.write_brief(sys.stdout)
        else:
            document.write(sys.stdout, self.form.value)

    def only_lines(self, flag: str) -> None:
        """Refuse a format where a flag makes the command print lines instead of tables.

        Raises:
            typer.BadParameter: a format was named.
        """
        if self.form is not Format.TERMINAL:
            raise typer.BadParameter(f"{flag} prints lines, not tables; leave out --format and --json")


def printed(*, quietly: bool = False) -> Callable[[Command], Command]:
    """Gives a command the flags of this file in the place of its parameter ``how``, a `Printing`.

    Args:
        quietly: also --quiet, for commands that do more than to print tables.
    """
    names = [name for name in _FLAGS if quietly or name != "quiet"]

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(command, eval_str=True).parameters.values():
            if one.name != "how":
                parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            for name in names:
                default = None if name == "format" else False
                parameters.append(inspect.Parameter(name, one.KEYWORD_ONLY, default=default, annotation=_FLAGS[name]))

        def call(**given: Any) -> Any:
            form, json = given.pop("format"), given.pop("json")
            if json and form not in (None, Format.JSON):
                raise typer.BadParameter(f"--format {form.value} and --json ask for different things; give one")
            how = Printing(Format.JSON if json else form or Format.TERMINAL, given.pop("quiet", False))
            with quiet(how.quiet):
                return command(how=how, **given)

        return with_parameters(call, command, parameters)

    return decorate


def print_rows(rows: Sequence[dict[str, Any]], json: bool, aside: tuple[str, ...] = ()) -> None:
    """Print a list, as a table or as JSON; what is long (``aside``) stands below the table, row by row."""
    from meteor_bench.report.rows import print_rows

    print_rows(rows, sys.stdout, as_json=json, aside=aside)
