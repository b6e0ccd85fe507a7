"""Plain data (what YAML and JSON give) into typed values and back, with errors that name the place.

Understands bool, int, float, str, None, Path, Any, Literal, unions, ``tuple[X, ...]``, ``list[X]``,
``dict[str, X]`` / ``Mapping[str, X]`` and dataclasses of these. Anything beyond that is a programming error.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from collections.abc import Mapping as AbstractMapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from meteor_bench.errors import UnknownNameError

__all__ = ["PlainError", "describe", "fit", "plain"]

Place = tuple[str | int, ...]


class PlainError(ValueError):
    """A value that does not fit its type.

    Attributes:
        place: keys and indices from the top to the value.
        reason: what was expected and what was found.
    """

    def __init__(self, place: Place, reason: str) -> None:
        self.place, self.reason = place, reason
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")
        super().__init__(f"{where}: {reason}" if where else reason)


_SIMPLE: dict[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("text", (str,)),
    Path: ("a path", (str, Path)),
    types.NoneType: ("nothing", (types.NoneType,)),
}


def describe(annotation: Any) -> str:
    """An annotation in a user's words: "a whole number", "one of keep, renumber"."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation][0]
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin in (tuple, list):
        return f"a list ({describe(args[0])} each)"
    return "a table of keys and values"


def fit(value: Any, annotation: Any, place: Place = ()) -> Any:
    """``value`` as ``annotation``: a list becomes a tuple, a table a dataclass, an int a float, text a path.

    Args:
        value: plain data.
        annotation: the type it must have.
        place: where the value stands, for the message.

    Raises:
        PlainError: it does not fit, lacks a required key or has an unknown one.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if annotation in _SIMPLE:
        # bool is an int to Python, not to a user.
        if isinstance(value, _SIMPLE[annotation][1]) and (annotation is bool or not isinstance(value, bool)):
            return value if annotation is types.NoneType else annotation(value)
    elif origin is Literal:
        if any(value == a and type(value) is type(a) for a in args):
            return value
    elif origin in (Union, types.UnionType):
        return _fit_union(value, args, annotation, place)
    elif origin in (tuple, list):
        if isinstance(value, list | tuple):
            return origin(fit(v, args[0], (*place, i)) for i, v in enumerate(value))
    elif origin in (dict, AbstractMapping):
        if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
            return {k: fit(v, args[1], (*place, k)) for k, v in value.items()}
    elif is_dataclass(annotation) and isinstance(annotation, type):
        if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
            return _fit_dataclass(value, annotation, place)
    else:
        raise TypeError(f"fit() does not know {annotation}")
    raise PlainError(place, f"expected {describe(annotation)}, found {_show(value)}")


def plain(value: Any) -> Any:
    """The inverse of `fit`: dataclasses, tuples and paths as what JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _fit_union(value: Any, members: tuple[Any, ...], annotation: Any, place: Place) -> Any:
    deeper: PlainError | None = None
    for member in members:
        try:
            return fit(value, member, place)
        except PlainError as error:
            # An error inside a container says more than "is none of these".
            if len(error.place) > len(place):
                deeper = error
    raise deeper or PlainError(place, f"expected {describe(annotation)}, found {_show(value)}")


def _fit_dataclass(value: Mapping[str, Any], kind: type, place: Place) -> Any:
    hints = _hints(kind)
    for key in value:
        if key not in hints:
            raise PlainError((*place, key), str(UnknownNameError("key", key, hints)))
    for f in fields(kind):
        if f.name not in value and f.default is MISSING and f.default_factory is MISSING:
            raise PlainError((*place, f.name), "the key is missing")
    return kind(**{k: fit(v, hints[k], (*place, k)) for k, v in value.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
