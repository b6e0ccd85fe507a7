"""What the annotation of a field says: in a user's words, and of a dataclass's fields."""

from __future__ import annotations

import types
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from meteor_bench.core.settings import Range

__all__ = ["SIMPLE", "UnknownTypeError", "describe", "hints"]


class UnknownTypeError(TypeError):
    """An annotation that no value from YAML, JSON or a flag can be checked against."""


# A type in a user's words, and the types of the values that are taken for it.
SIMPLE: dict[Any, tuple[str, tuple[type, ...]]] = {
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
    if annotation in SIMPLE:
        return SIMPLE[annotation][0]
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is Annotated:
        return ", ".join([describe(args[0]), *(str(one) for one in args[1:] if isinstance(one, Range))])
    if origin is tuple and Ellipsis not in args:
        return f"a list of {len(args)} ({', '.join(map(describe, args))})"
    if origin in (tuple, list):
        return f"a list ({describe(args[0])} each)"
    return "a table of keys and values"


@cache
def hints(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, with ranges; UnknownTypeError where one names what is not there."""
    try:
        found = get_type_hints(kind, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise UnknownTypeError(f"an annotation of {kind.__name__} cannot be read: {error}") from None
    return {f.name: found[f.name] for f in fields(kind)}
