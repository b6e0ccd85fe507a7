"""Settings as people write them, on the command line and in YAML files, into the types of a dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from meteor_bench.config.spec import apart, is_list, read_text, spelled, verify
from meteor_bench.core.errors import ConfigError, MeteorBenchError, UnknownNameError
from meteor_bench.utils.annotations import hints
from meteor_bench.utils.plain_text import shortened
from meteor_bench.utils.safe_files import UnsafeFile
from meteor_bench.utils.safe_yaml import data
from meteor_bench.utils.structuring import PlainError, fit
from meteor_bench.utils.yaml_file import line_of, parsed

__all__ = ["Parameter", "fit_flags", "names", "once", "parameter", "read_file", "said", "scalar"]


def fit_flags(flags: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Flags with the types of a dataclass's fields of the same names, checked.

    Raises:
        ConfigError: naming the flag.
    """
    known = hints(kind)
    found = {}
    for name, value in flags.items():
        if name not in known:
            raise UnknownNameError("setting", name, known)
        try:
            found[name] = fit(value, known[name])
            verify(found[name], known[name])
        except PlainError as error:
            raise said(kind, name, error) from None
    return found


def said(kind: type, name: str, error: PlainError) -> ConfigError:
    """An error of a field as a user of the command line reads it: with the flag, unless it names the value itself."""
    if isinstance(error.__cause__, UnknownNameError):
        return error.__cause__
    if error.reason.startswith("unknown "):
        return ConfigError(error.reason)
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.place)
    reason = error.reason.replace(" or nothing, found", ", found")  # which no flag can say
    return ConfigError(f"{spelled(kind, name)}{where}: {reason}")


def names(text: str) -> list[str]:
    """A comma list, as ``--tasks`` and ``--stages`` take it.

    Raises:
        ConfigError: it names nothing, which must not stand for everything.
    """
    found = apart(text)
    if not found:
        raise ConfigError(f"expected names separated by commas, found '{text}'; leave it out for the default")
    return found


def scalar(text: str) -> Any:
    """What a flag's text means as a YAML value: ``0.5``, ``true``, ``[a, b]``, plain text.

    Raises:
        ConfigError: it is no YAML.
    """
    try:
        return data(text)
    except UnsafeFile as error:
        raise ConfigError(f"cannot read the value '{shortened(text, 80)}': {error}") from None


_OWN = ("data", "ask")  # flags that are no keys: what they name is a benchmark


class Parameter(NamedTuple):
    """One ``--param name=value``."""

    name: str
    value: Any


def parameter(text: str, of: str = "--param") -> Parameter:
    """``name=value`` of a ``--param`` flag, or of what else ``of`` names.

    Raises:
        ConfigError: there is no name, no "=" or no value.
    """
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise ConfigError(f"{of} takes name=value, not '{shortened(text, 80)}'")
    return Parameter(name.strip(), scalar(value))


def once(given: Sequence[Parameter], of: str = "--param") -> dict[str, Any]:
    """Parameters by name.

    Raises:
        ConfigError: one is given twice.
    """
    table: dict[str, Any] = {}
    for name, value in given:
        if name in table:
            raise ConfigError(f"{of} {name} is given twice: {table[name]} and {value}")
        table[name] = value
    return table


def read_file(file: Path, kind: type) -> dict[str, Any]:
    """The checked values of a YAML file.

    Args:
        kind: a dataclass; its fields are the keys, and those that hold a list may also be one text with commas.

    Raises:
        ConfigError: naming file, line and key.
    """
    top, given = parsed(file)
    if top is None:
        return {}
    known = hints(kind)
    values = {}
    for key, value in given.items():
        try:
            if key in _OWN and "tasks" in known:
                raise ConfigError(f"unknown key '{key}'; questions of your own stand in: {_as_tasks(given)}")
            if key not in known:
                raise UnknownNameError("key", str(key), known)
            if isinstance(value, str) and is_list(known[key]):
                value = read_text(kind, key, value)
            values[key] = fit(value, known[key])
            verify(values[key], known[key])
        except PlainError as error:
            place = (key, *error.place)
            raise ConfigError(f"{file}:{line_of(top, place)}: {PlainError(place, error.reason)}") from None
        except MeteorBenchError as error:  # a checkpoint's among them
            raise ConfigError(f"{file}:{line_of(top, (key,))}: {key}: {error}") from None
    return values


def _as_tasks(given: Mapping[Any, Any]) -> str:
    """The key that says in a file what --data and --ask say on the command line."""
    from meteor_bench.data import own_pictures

    data, question = (given.get(name) for name in _OWN)
    name = str(data or "pictures")
    if question is not None or Path(name).is_dir():
        name = own_pictures.named(Path(name), None if question is None else str(question))
    return yaml.safe_dump({"tasks": [name]}, default_flow_style=None, allow_unicode=True, width=10**6).strip()
