"""From a name and parameters to a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from meteor_bench.core.errors import ConfigError, UnknownNameError
from meteor_bench.core.interrupts import contained
from meteor_bench.core.method_file import MethodFile, shown
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.registry import METHODS, parts_of

__all__ = ["make_pruner", "method_class"]

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
        if not hasattr(pruner, "stages"):
            raise ConfigError(f"method '{method}' has no stages to choose from; leave --stages out")
        for stage in stages:
            if stage not in STAGES:
                raise UnknownNameError("stage", stage, STAGES)
        given["stages"] = tuple(stage for stage in STAGES if stage in stages)
    known = [f.name for f in fields(pruner)]
    for name, value in given.items():
        if name not in known:
            if not known:
                raise ConfigError(f"method '{method}' has no parameters; '{name}' was given")
            raise UnknownNameError(f"parameter of method '{method}'", name, known)
        default = getattr(pruner, name)
        if not _fits(value, default):
            raise ConfigError(
                f"parameter '{name}' of method '{method}' is {value!r}; "
                f"expected {type(default).__name__}, say {default!r}"
            )
        if isinstance(default, tuple) and isinstance(value, list):
            given[name] = tuple(value)
    return replace(pruner, **given)


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
        share = given.pop("share", 1.0)
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise ConfigError(f"parameter '{name}.share' is {share!r}; expected a positive number")
        made.append(Part(shown(name), make_pruner(name, given), float(share)))
    return compose(made)


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of the default; an int serves as a float, and a default of None says nothing."""
    if default is None:
        return True
    if value is None:
        return False
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, tuple):
        return isinstance(value, (tuple, list))
    return isinstance(value, type(default))
