"""Plain data (what YAML, JSON and flags give) into typed values and back, with errors that name the place.

The one validator of settings: of methods, of YAML files, of flags, of records. Understands bool, int, float, str, None,
Path, Any, Literal, unions, ``tuple[X, ...]``, ``tuple[X, Y]``, ``list[X]``, ``dict[str, X]`` / ``Mapping[str, X]``,
dataclasses of these, and ``Annotated[X, Range(...)]`` of any of them. A type beyond that is an `UnknownTypeError`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from collections.abc import Mapping as AbstractMapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from meteor_bench.core.errors import UnknownNameError
from meteor_bench.core.settings import Range
from meteor_bench.utils.annotations import SIMPLE, UnknownTypeError, describe, hints
from meteor_bench.utils.plain_text import shortened

__all__ = ["PlainError", "fit", "known_type", "plain"]

Place = tuple[str | int, ...]
Reader = Callable[[Any], Any]


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

    def below(self, *place: str | int) -> PlainError:
        """The same error, seen from further up."""
        return PlainError((*place, *self.place), self.reason)


def fit(value: Any, annotation: Any, place: Place = ()) -> Any:
    """``value`` as ``annotation``: a list becomes a tuple, a table a dataclass, an int a float, text a path.

    Args:
        value: plain data.
        annotation: the type it must have.
        place: where the value stands, for the message.

    Raises:
        PlainError: it does not fit, is out of range, lacks a required key or has an unknown one.
        UnknownTypeError: no value can be checked against the annotation.
    """
    try:
        return _reader(annotation)(value)
    except PlainError as error:
        raise error.below(*place) from None


def known_type(annotation: Any, name: str) -> None:
    """Raise an UnknownTypeError with the field's name unless values can be checked against its annotation."""
    try:
        _reader(annotation)
    except UnknownTypeError as error:
        raise UnknownTypeError(f"field '{name}': {error}") from None


def plain(value: Any) -> Any:
    """The inverse of `fit`: dataclasses, tuples and paths as what JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


@cache
def _reader(annotation: Any) -> Reader:
    """What turns a value into one type; made once, for records are read by the ten thousand."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return lambda value: value
    if annotation in SIMPLE:
        return _simple(annotation)
    if origin is Literal:
        return _literal(annotation, args)
    if origin in (Union, types.UnionType):
        return _union(annotation, args)
    if origin is Annotated:
        return _ranged(annotation, _reader(args[0]), [one for one in args[1:] if isinstance(one, Range)])
    if origin is tuple and args and Ellipsis not in args:
        return _row(annotation, [_reader(arg) for arg in args])
    if origin in (tuple, list) and args:
        return _sequence(annotation, origin, _reader(args[0]))
    if origin in (dict, AbstractMapping):
        return _table(annotation, _reader(args[1]))
    if is_dataclass(annotation) and isinstance(annotation, type):
        return _dataclass(annotation)
    named = annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
    raise UnknownTypeError(f"{named} is no type of a setting; take bool, int, float, str, Literal, or a tuple of these")


def _simple(annotation: Any) -> Reader:
    known = SIMPLE[annotation][1]
    convert = (lambda value: value) if annotation is types.NoneType else annotation

    def read(value: Any) -> Any:
        # bool is an int to Python, not to a user.
        if type(value) is annotation:
            return value
        if isinstance(value, known) and not isinstance(value, bool):
            return convert(value)
        raise _misfit(value, annotation)

    return read


def _literal(annotation: Any, members: tuple[Any, ...]) -> Reader:
    known = {(type(member), member) for member in members}
    kinds = {kind for kind, _ in known}

    def read(value: Any) -> Any:
        if type(value) in kinds and (type(value), value) in known:
            return value
        raise _misfit(value, annotation)

    return read


def _union(annotation: Any, members: tuple[Any, ...]) -> Reader:
    readers = [_reader(member) for member in members]

    def read(value: Any) -> Any:
        deeper: PlainError | None = None
        for reader in readers:
            try:
                return reader(value)
            except PlainError as error:
                # An error inside a container says more than "is none of these".
                deeper = error if error.place else deeper
        raise deeper or _misfit(value, annotation)

    return read


def _sequence(annotation: Any, kind: type, inner: Reader) -> Reader:
    element = get_args(annotation)[0]
    simple = element in SIMPLE

    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _misfit(value, annotation)
        if simple and set(map(type, value)) <= {element}:
            return kind(value)  # ten thousand numbers at a time, in records of samples
        items: list[Any] = []
        try:
            for item in value:
                items.append(inner(item))
        except PlainError as error:
            raise error.below(len(items)) from None
        return kind(items)

    return read


def _row(annotation: Any, readers: list[Reader]) -> Reader:
    """A tuple of a fixed length."""

    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(readers):
            raise _misfit(value, annotation)
        items: list[Any] = []
        try:
            for reader, item in zip(readers, value, strict=True):
                items.append(reader(item))
        except PlainError as error:
            raise error.below(len(items)) from None
        return tuple(items)

    return read


def _ranged(annotation: Any, inner: Reader, ranges: list[Range]) -> Reader:
    if not ranges:
        return inner

    def read(value: Any) -> Any:
        try:
            found = inner(value)
        except PlainError as error:
            if error.place:
                raise
            raise _misfit(value, annotation) from None
        if found is not None and not all(found in one for one in ranges):
            raise _misfit(value, annotation)
        return found

    return read


def _table(annotation: Any, inner: Reader) -> Reader:
    anything = get_args(annotation)[1] is Any

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _misfit(value, annotation)
        if anything:
            return dict(value)
        table = {}
        for key, item in value.items():
            try:
                table[key] = inner(item)
            except PlainError as error:
                raise error.below(key) from None
        return table

    return read


def _dataclass(kind: type) -> Reader:
    readers = {name: _reader(hint) for name, hint in hints(kind).items()}
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _misfit(value, kind)
        arguments = {}
        for key, item in value.items():
            if key not in readers:
                raise PlainError((key,), str(UnknownNameError("key", key, readers)))
            try:
                arguments[key] = readers[key](item)
            except PlainError as error:
                raise error.below(key) from None
        for key in required:
            if key not in arguments:
                raise PlainError((key,), "the key is missing")
        return kind(**arguments)

    return read


def _misfit(value: Any, annotation: Any) -> PlainError:
    return PlainError((), f"expected {describe(annotation)}, found {_show(value)}")


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        few = 0 < len(value) <= 8 and all(isinstance(item, int | float) for item in value)
        return str([*value]) if few else "a list"
    return shortened(repr(value), 40)
