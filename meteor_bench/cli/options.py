"""Flags made from the fields of a config, and flags that several commands have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from meteor_bench.cli.completion import completer
from meteor_bench.config.spec import Option, options, read_text
from meteor_bench.config.yaml_settings import once, parameter
from meteor_bench.core.errors import ConfigError
from meteor_bench.data import own_pictures, own_questions
from meteor_bench.data.own_pictures import QUESTION

__all__ = ["Online", "flags", "with_parameters"]

Online = Annotated[bool, typer.Option("--online", help="Let models and data be fetched from the hub.")]
# Of every command that takes benchmarks by name: a file of questions is one, and a folder of pictures.
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE.jsonl|FOLDER",
        help="Questions of your own, in place of benchmarks; a folder of pictures: agreement with the unpruned model.",
    ),
]
Ask = Annotated[
    str | None, typer.Option("--ask", metavar="TEXT", help=f"The question about a folder's pictures. [{QUESTION}]")
]

Command = Callable[..., Any]


def flags(kind: type, *names: str, defaults: bool = True) -> Callable[[Command], Command]:
    """Gives a command the flags of a config's fields, in the place of its parameter ``said``.

    The command is called with ``said``: the fields that the user gave, by name, as plain data that is still to be
    checked. Ranges, tables and types are the config's; nothing is repeated here.

    Args:
        names: of the fields; all that have a flag where none is named.
        defaults: whether the help names the fields' defaults, which the command may not have.
    """
    every = options(kind)
    shown = {name: every[name] for name in names} if names else every
    asks = "tasks" in shown

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(command, eval_str=True).parameters.values():
            if one.name == "said":
                parameters += [_parameter(option, defaults=defaults) for option in shown.values()]
                for name, kind_of in (("data", Data), ("ask", Ask)) if asks else ():
                    parameters.append(inspect.Parameter(name, one.KEYWORD_ONLY, default=None, annotation=kind_of))
            else:
                parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        def call(**given: Any) -> Any:
            texts = {name: given.pop(name) for name in shown}
            said = {name: _read(kind, shown[name], text) for name, text in texts.items() if text not in (None, [])}
            if asks and (file := _own(given.pop("data"), given.pop("ask"), said)):
                said["tasks"] = [file]
            return command(said=said, **given)

        return with_parameters(call, command, parameters)

    return decorate


def with_parameters(call: Command, command: Command, parameters: Sequence[inspect.Parameter]) -> Command:
    """A function that Typer takes for the command with these parameters."""
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


def _parameter(option: Option, *, defaults: bool) -> inspect.Parameter:
    text = f"{option.help} [{option.default}]" if defaults and option.default else option.help
    if option.kind == "switch":
        kind: Any = bool | None
        said = typer.Option(option.names, help=text)
    else:
        kind = list[str] | None if option.kind == "many" else str | None
        said = typer.Option(option.names, help=text, metavar=option.metavar, autocompletion=completer(option))
    return inspect.Parameter(
        option.field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, said]
    )


def _read(kind: type, option: Option, given: Any) -> Any:
    if option.kind == "switch":
        return given
    if option.kind != "many":
        return read_text(kind, option.field, given)
    return once([parameter(text) for text in given])


def _own(data: Path | None, question: str | None, said: dict[str, Any]) -> str:
    """The benchmark that a file or a folder is; "" for none.

    Raises:
        ConfigError: it is neither, or other benchmarks are named besides.
    """
    folder = data is not None and data.is_dir()
    if question is not None and not folder:
        raise ConfigError("--ask is the question about a folder of pictures; give it with --data FOLDER")
    if data is None:
        return ""
    if not folder and data.suffix != own_questions.SUFFIX:
        raise ConfigError(
            f"--data takes a folder of pictures, or a file of JSON lines whose name ends in {own_questions.SUFFIX}, "
            f"not {data}"
        )
    for name in ("tasks", "suite", "suites"):
        if name in said:
            raise ConfigError("--data stands in place of --suite and --tasks; give one of them")
    return own_pictures.named(data, question) if folder else str(data)
