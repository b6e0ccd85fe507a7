"""YAML files that people write, with the lines that things stand on, for messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from meteor_bench.core.errors import ConfigError
from meteor_bench.utils.safe_files import UnsafeFile, read_text
from meteor_bench.utils.safe_yaml import LIMIT, compose, construct
from meteor_bench.utils.structuring import Place

__all__ = ["line_of", "parsed"]


def parsed(file: Path) -> tuple[yaml.Node | None, dict[Any, Any]]:
    """A YAML file's nodes, which know their lines, and its data; None and nothing for an empty one.

    Raises:
        ConfigError: it cannot be read, is no YAML, is no table, or holds a key twice; names file and line.
    """
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


def line_of(node: yaml.Node, place: Place) -> int:
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
