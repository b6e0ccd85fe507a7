"""YAML as plain data: bounded, without tags of its own, one error for whatever is wrong.

Scalars are null, booleans, whole numbers of 64 bits, finite numbers and text; dates stay text. 1e-3 is a number, as
everywhere else (YAML 1.1 wants 1.0e-3). Anchors may be used as long as what they stand for, written out, stays small.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from meteor_bench.utils.plain_text import shortened
from meteor_bench.utils.safe_files import DEPTH, UnsafeFile

__all__ = ["LIMIT", "compose", "construct", "data"]

LIMIT = 1 << 20
"""Letters; people write a few thousand."""
NODES = 200_000
_WHOLE = 2**63


class _Loader(yaml.SafeLoader):
    """Of plain data only; an error names the line of the value."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEPTH:
            line = parent.start_mark.line + 1 if parent is not None else 1
            raise UnsafeFile(f"not valid YAML: line {line}: it nests more than {DEPTH} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, yaml.YAMLError):
                raise
            kind = str(node.tag).rpartition(":")[2]
            what = repr(node.value) if isinstance(node.value, str) else "a list or table"
            raise _Refused(f"{shortened(what, 40)} is no {kind}", node) from None


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, problem: str, node: yaml.Node) -> None:
        super().__init__(None, None, problem, node.start_mark)


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > 100:
        raise _Refused("a whole number of more than 64 bits", node)
    value: int = loader.construct_yaml_int(node)
    if not -_WHOLE <= value < _WHOLE:
        raise _Refused(f"{shortened(node.value, 40)} is a whole number of more than 64 bits", node)
    return value


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    value: float = loader.construct_yaml_float(node)
    if not math.isfinite(value):
        raise _Refused(f"{shortened(node.value, 40)} is no finite number", node)
    return value


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    value: str = loader.construct_yaml_str(node)
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _Refused("half of a surrogate pair is no text", node)
    return value


def _unknown(loader: _Loader, node: yaml.Node) -> Any:
    raise _Refused(f"the tag {shortened(str(node.tag), 40)} is not read here", node)


_PLAIN = ("null", "bool", "seq", "map")
_Loader.yaml_constructors = {
    **{f"tag:yaml.org,2002:{k}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{k}"] for k in _PLAIN},
    "tag:yaml.org,2002:int": _whole,
    "tag:yaml.org,2002:float": _number,
    "tag:yaml.org,2002:str": _text,
    None: _unknown,
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def compose(text: str) -> yaml.Node | None:
    """The nodes of a text, which know their lines; None where it says nothing.

    Raises:
        UnsafeFile: it is too large, nests too deeply, contains itself or would be too large written out.
        yaml.YAMLError: it is no YAML.
    """
    if len(text) > LIMIT:
        raise UnsafeFile(f"it is larger than {LIMIT >> 20} MiB")
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None:
        _check_size(node, {}, set())
    return node


def construct(node: yaml.Node | None) -> Any:
    """What nodes of `compose` mean.

    Raises:
        yaml.YAMLError: a value is not what its tag says.
    """
    loader = _Loader("")
    try:
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def data(text: str) -> Any:
    """What a text says.

    Raises:
        UnsafeFile: it cannot be read, in one line that names the place.
    """
    try:
        return construct(compose(text))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UnsafeFile(f"not valid YAML: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise UnsafeFile(f"not valid YAML: {str(error).splitlines()[0]}") from None


def _check_size(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """Nodes under one, written out; each is counted once, however often it stands there."""
    if id(node) in above:
        raise UnsafeFile(f"not valid YAML: line {node.start_mark.line + 1}: it contains itself")
    if id(node) not in known:
        above.add(id(node))
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        flat = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_check_size(one, known, above) for one in flat)
        above.remove(id(node))
        if known[id(node)] > NODES:
            raise UnsafeFile(
                f"not valid YAML: line {node.start_mark.line + 1}: written out, it has more than {NODES} values"
            )
    return known[id(node)]
