"""What a field of a config says beyond its type: help and spelling of its flag, and the table that its value is in.

``Annotated[str, Flag("Row of `list models`."), Known(check)]``; flag, YAML key, check and help all follow from it.
Ranges and types are checked by `utils.structuring`; what is known only here and now (names in tables, folders) by
`verify`, which reading a record leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from meteor_bench.core.errors import ConfigError
from meteor_bench.utils.annotations import hints
from meteor_bench.utils.structuring import PlainError

__all__ = ["Flag", "Known", "Option", "apart", "is_list", "options", "read_text", "spelled", "verify"]


@dataclass(frozen=True)
class Flag:
    """How a field is said on the command line.

    Attributes:
        help: what it is.
        name: its flag; "" for the field's own name ("batch_size" is --batch-size).
        default: what the default is called, where that is not its value; "" for nothing.
        completes: the table whose names its values complete to.
        metavar: what stands for its value in the help; "" for the type's.
        reads: makes plain data of each part of a list, where parts are more than words and numbers.
    """

    help: str
    name: str = ""
    default: str | None = None
    completes: str = ""
    metavar: str = ""
    reads: Callable[[str], Any] | None = None


@dataclass(frozen=True)
class Known:
    """A check against what is here and now; raises ConfigError, or ModelError for a checkpoint."""

    check: Callable[[Any], None]


class Option(NamedTuple):
    """A field as a flag.

    Attributes:
        field: the field's name.
        names: how it is spelled: one name, "--a/--no-a" for a switch that is on by default.
        kind: "switch"; "text", one value; "many", may be repeated.
        help: what it is.
        default: what the default is called; "" for nothing.
        metavar: what stands for the value.
        completes: as in `Flag`; "" for none.
        choices: values of a `Literal`.
        several: the text is a list separated by commas.
    """

    field: str
    names: str
    kind: Literal["switch", "text", "many"]
    help: str
    default: str
    metavar: str
    completes: str
    choices: tuple[str, ...]
    several: bool = False


_COMMA = re.compile(r",(?![^(]*\)|[^[]*])")  # outside of (a, b) and [a, b]
_METAVARS = {int: "INTEGER", float: "FLOAT", Path: "PATH", str: "TEXT"}


def spelled(kind: type, name: str) -> str:
    """A field's flag: "--batch-size" for batch_size, "--param" for parameters."""
    flag = _flag(hints(kind).get(name))
    return flag.name if flag and flag.name else "--" + name.replace("_", "-")


def options(kind: type) -> dict[str, Option]:
    """The fields of a config that have a flag, by name."""
    found = {}
    for one in fields(kind):
        annotation = hints(kind)[one.name]
        flag = _flag(annotation)
        if flag is None:
            continue
        default = one.default if one.default is not MISSING else None
        found[one.name] = _option(one.name, spelled(kind, one.name), annotation, flag, default)
    return found


def _option(field: str, name: str, annotation: Any, flag: Flag, default: Any) -> Option:
    base = _base(annotation)
    said = _said(default) if flag.default is None else flag.default
    if base is bool:
        return Option(field, f"{name}/--no-{name[2:]}" if default else name, "switch", flag.help, said, "", "", ())
    element = base
    if get_origin(base) is tuple:
        element = _base(get_args(base)[0])
    choices = tuple(map(str, get_args(element))) if get_origin(element) is Literal else ()
    metavar = flag.metavar or ("TEXT" if element is not base else _METAVARS.get(base, "TEXT"))
    kind: Literal["many", "text"] = "many" if get_origin(base) not in (None, tuple, Literal) else "text"
    return Option(field, name, kind, flag.help, said, metavar, flag.completes, choices, element is not base)


def _said(default: Any) -> str:
    if default is True:
        return "yes"
    if default is None or default is False or default == "":
        return ""
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def read_text(kind: type, name: str, text: str) -> Any:
    """What a flag's text means as plain data: a number where the field holds one, a list where it holds several.

    What is no number stays text, so that the validator says what was expected.

    Raises:
        ConfigError: a list that names nothing, which must not stand for everything.
    """
    base = _base(hints(kind)[name])
    if get_origin(base) is not tuple:
        return _number(text, base)
    parts = apart(text)
    if not parts:
        raise ConfigError(f"{spelled(kind, name)}: expected names separated by commas, found '{text}'")
    flag = _flag(hints(kind)[name])
    if flag and flag.reads:
        return [flag.reads(part) for part in parts]
    element = _base(get_args(base)[0])
    return [_number(part, element) for part in parts]


def apart(text: str) -> list[str]:
    """The parts of a list separated by commas; one in brackets separates nothing."""
    return [part.strip() for part in _COMMA.split(text) if part.strip()]


def _number(text: str, kind: Any) -> Any:
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        return text


def verify(value: Any, annotation: Any) -> None:
    """Every `Known` of an annotation, elements of lists and fields of tables included.

    Raises:
        PlainError: what is wrong, and where in the value.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if value is None:
        return
    if origin is Annotated:
        for one in args[1:]:
            if isinstance(one, Known):
                try:
                    one.check(value)
                except ConfigError as error:
                    raise PlainError((), str(error)) from error
        verify(value, args[0])
    elif origin is tuple:
        for at, item in enumerate(value):
            try:
                verify(item, args[0])
            except PlainError as error:
                raise error.below(at) from None
    elif is_dataclass(value) and not isinstance(value, type):
        for name, hint in hints(type(value)).items():
            verify(getattr(value, name), hint)
    elif origin is not Literal and not (isinstance(value, Mapping) or origin is None):
        for member in args:  # a union: the member that the value is of
            if _base(member) is type(value):
                verify(value, member)


def is_list(annotation: Any) -> bool:
    """Whether a field holds several values."""
    return get_origin(_base(annotation)) is tuple


def _flag(annotation: Any) -> Flag | None:
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((one for one in metadata if isinstance(one, Flag)), None)


def _base(annotation: Any) -> Any:
    """A type without its annotations and without None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        members = [member for member in get_args(annotation) if member is not NoneType]
        if NoneType in get_args(annotation) and len(members) == 1:
            annotation = members[0]
            continue
        return annotation
