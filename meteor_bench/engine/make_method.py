"""From a name and parameters to a method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from math import inf, isfinite
from typing import Annotated, Any

from meteor_bench.core.errors import ConfigError, UnknownNameError
from meteor_bench.core.interrupts import contained
from meteor_bench.core.method_file import MethodFile, shown
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.registry import METHODS, parts_of
from meteor_bench.core.settings import Range
from meteor_bench.utils.annotations import UnknownTypeError, describe, hints
from meteor_bench.utils.structuring import PlainError, fit, known_type

__all__ = ["checked", "make_pruner", "method_class"]

STAGES = ("encode", "fuse", "decode")


def make_pruner(
    method: str, parameters: Mapping[str, Any] | None = None, stages: Sequence[str] | None = None
) -> Pruner:
    """The method with its published defaults, or with the given hyperparameters.

    Args:
        method: a name of the table, a file that holds one, or a composition "evoprune+fastv".
        parameters: name -> value; checked against the method's fields and their types. Those of a composition's part
            are called "part.name" or stand in a table of their own {part: {name: value}}; "share" is the part's share
            of the reduction.
        stages: the stages to run, for a method that has a ``stages`` field.

    Raises:
        UnknownNameError, ConfigError: a method, parameter or stage that does not exist, a value of a wrong type.
    """
    parts = parts_of(method)
    if len(parts) > 1:
        return _make_composed(method, parts, parameters or {}, stages)
    pruner: Pruner = _made(method)
    given = dict(parameters or {})
    if stages is not None:
        if "stages" not in pruner.parameters():
            raise ConfigError(f"method '{method}' has no stages to choose from; leave --stages out")
        for stage in stages:
            if stage not in STAGES:
                raise UnknownNameError("stage", stage, STAGES)
        given["stages"] = tuple(stage for stage in STAGES if stage in stages)
    with _called(method):
        return replace(pruner, **_fitted(method, type(pruner), given))


def checked(pruner: Pruner) -> Pruner:
    """A method that somebody made in Python, with each field fitted to its annotation.

    Raises:
        ConfigError: a value is wrong, or an annotation is none that a setting can have.
    """
    name = type(pruner).__name__
    fitted = _fitted(name, type(pruner), {f.name: getattr(pruner, f.name) for f in fields(pruner)})
    return replace(pruner, **fitted)


def _fitted(method: str, kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the annotations of a method's fields want them."""
    try:
        known = hints(kind)
        for name, annotation in known.items():
            known_type(annotation, name)
    except UnknownTypeError as error:
        raise ConfigError(f"method '{method}' cannot be used: {error}") from None
    found = {}
    for name, value in given.items():
        if name not in known:
            if not known:
                raise ConfigError(f"method '{method}' has no parameters; '{name}' was given")
            raise UnknownNameError(f"parameter of method '{method}'", name, known)
        try:
            found[name] = fit(value, known[name])
            if not _finite(found[name]):
                raise PlainError((), f"expected {describe(known[name])}, found {value!r}, which is no finite number")
        except PlainError as error:
            where = PlainError((name, *error.place), "").args[0].removesuffix(": ")
            raise ConfigError(f"parameter '{where}' of method '{method}': {error.reason}") from None
    return found


def _finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or isfinite(value)


@contextmanager
def _called(method: str) -> Iterator[None]:
    """Errors of a method's own checks, with its name."""
    try:
        yield
    except ConfigError as error:
        if method in str(error):
            raise
        raise ConfigError(f"method '{method}': {error}") from None


def method_class(method: str) -> type[Pruner]:
    """The class of a row of the table, or of a file ("./loudest.py", "./loudest.py:Loudest").

    Raises:
        UnknownNameError, ConfigError: there is none.
    """
    file = MethodFile.of(method)
    found: type[Pruner] = METHODS.load(method) if file is None else file.load(Pruner)
    return found


def _made(method: str) -> Pruner:
    file = MethodFile.of(method)
    if file is None:
        made: Pruner = METHODS.make(method)
        return made
    with contained(f"method file {file.path}"):
        return method_class(method)()


def _make_composed(
    method: str, parts: Sequence[str], parameters: Mapping[str, Any], stages: Sequence[str] | None
) -> Pruner:
    """A composition, each part with its parameters."""
    from meteor_bench.methods.compose import Part, compose  # the core stands below the methods

    if stages is not None:
        raise ConfigError(f"'{method}' is a composition; say --param <part>.stages=... instead of --stages")
    own: dict[str, dict[str, Any]] = {part: {} for part in parts}
    if len(own) < len(parts):
        raise ConfigError(f"'{method}' names a method twice")
    dotted = {name: value for name, value in parameters.items() if name not in own}
    for name in own:
        table = parameters.get(name, {})
        if not isinstance(table, Mapping):
            raise ConfigError(f"parameter '{name}' of '{method}' is {table!r}; expected a table of {name}'s parameters")
        own[name].update(table)
    for name, value in dotted.items():
        part, _, key = name.partition(".")
        if part not in own or not key:
            wanted = " or ".join(f"'{p}.{key or name}'" for p in own)
            raise ConfigError(f"parameter '{name}' of '{method}' names no part; say {wanted}")
        own[part][key] = value
    made = []
    for name, given in own.items():
        try:
            share = fit(given.pop("share", 1.0), Annotated[float, Range(above=0, below=inf)])
        except PlainError as error:
            raise ConfigError(f"parameter '{name}.share' of '{method}': {error.reason}") from None
        made.append(Part(shown(name), make_pruner(name, given), share))
    return compose(made)
