"""Settings as people write them, on the command line and in YAML files, into the types of a dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from meteor_bench.config.spec import is_list, spelled, verify
from meteor_bench.core.errors import ConfigError, MeteorBenchError, UnknownNameError
from meteor_bench.utils.plain_text import shortened
from meteor_bench.utils.safe_files import UnsafeFile, read_text
from meteor_bench.utils.safe_yaml import LIMIT, compose, construct, data
from meteor_bench.utils.structuring import Place, PlainError, fit, hints

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
    found = [part.strip() for part in text.split(",") if part.strip()]
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


class Parameter(NamedTuple):
    """One ``--param name=value``."""

    name: str
    value: Any


def parameter(text: str) -> Parameter:
    """``name=value`` of a ``--param`` flag.

    Raises:
        ConfigError: there is no name, no "=" or no value.
    """
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise ConfigError(f"--param takes name=value, not '{shortened(text, 80)}'")
    return Parameter(name.strip(), scalar(value))


def once(given: Sequence[Parameter]) -> dict[str, Any]:
    """Parameters by name.

    Raises:
        ConfigError: one is given twice.
    """
    table: dict[str, Any] = {}
    for name, value in given:
        if name in table:
            raise ConfigError(f"--param {name} is given twice: {table[name]} and {value}")
        table[name] = value
    return table


def read_file(file: Path, kind: type) -> dict[str, Any]:
    """The checked values of a YAML file.

    Args:
        kind: a dataclass; its fields are the keys, and those that hold a list may also be one text with commas.

    Raises:
        ConfigError: naming file, line and key.
    """
    top, data = _parsed(file)
    if top is None:
        return {}
    known = hints(kind)
    values = {}
    for key, value in data.items():
        try:
            if key not in known:
                raise UnknownNameError("key", str(key), known)
            if isinstance(value, str) and is_list(known[key]):
                value = [scalar(part) for part in names(value)]
            values[key] = fit(value, known[key])
            verify(values[key], known[key])
        except PlainError as error:
            place = (key, *error.place)
            raise ConfigError(f"{file}:{_line(top, place)}: {PlainError(place, error.reason)}") from None
        except MeteorBenchError as error:  # a checkpoint's among them
            raise ConfigError(f"{file}:{_line(top, (key,))}: {key}: {error}") from None
    return values


def _parsed(file: Path) -> tuple[yaml.Node | None, dict[Any, Any]]:
    """A YAML file's nodes, which know their lines, and its data; None and nothing for an empty one."""
    try:
        text = read_text(file, LIMIT)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except UnsafeFile as error:
        raise ConfigError(f"cannot read {file}: {error}") from None
    try:
        top = compose(text)
        found = construct(top)
    except UnsafeFile as error:
        raise ConfigError(f"{file}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from None
    if top is None:
        return None, {}
    if not isinstance(top, yaml.MappingNode):
        raise ConfigError(f"{file}:{top.start_mark.line + 1}: expected keys and values, one 'key: value' a line")
    _refuse_repeated(file, top)
    return top, found


def _refuse_repeated(file: Path, node: yaml.Node) -> None:
    """YAML lets the last of two equal keys win silently; a config must not."""
    seen: set[str] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value in seen:
            raise ConfigError(f"{file}:{key.start_mark.line + 1}: key '{key.value}' is given twice")
        seen.add(str(key.value))
        _refuse_repeated(file, value)


def _line(node: yaml.Node, place: Place) -> int:
    """Line of the value at ``place``, or of the last thing on the way to it."""
    line = node.start_mark.line + 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(step)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line
