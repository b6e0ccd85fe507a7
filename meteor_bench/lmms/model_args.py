"""lmms-eval's ``--model_args`` as fields of `RunConfig`.

``method=fastv,ratio=0.5,layer=3``: what is no field is a parameter of the method. ``parameters={"layer": 3}`` says the
same, and is the only way where a method's parameter has the name of a field. Lists are joined by "+".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from meteor_bench.config.run_config import RunConfig, check
from meteor_bench.config.spec import is_list
from meteor_bench.config.yaml_settings import scalar
from meteor_bench.core.errors import ConfigError, UnknownNameError
from meteor_bench.core.registry import parts_of
from meteor_bench.engine.make_method import method_class
from meteor_bench.utils.annotations import hints

__all__ = ["settings"]

# What lmms-eval is told by flags of its own.
_FLAGS = {"suite": "--tasks", "tasks": "--tasks", "limit": "--limit", "out": "--output_path"}
_THEIRS = ("max_batch_size",)  # lmms-eval's own, which it hands to every model


def settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `RunConfig` from model arguments, still to be checked.

    Raises:
        ConfigError: a name is neither a field nor a parameter of the method, or both.
    """
    given = {name: value for name, value in arguments.items() if name not in _THEIRS}
    annotations = hints(RunConfig)
    found = {name: _plain(value, annotations[name]) for name, value in given.items() if name in annotations}
    parameters = _table(given.get("parameters", {}))
    own = _parameters(str(found.get("method", "none")))
    for name, value in given.items():
        if name in _FLAGS and name not in own:
            raise ConfigError(f"'{name}' is not the model's to know; give lmms-eval's own {_FLAGS[name]}")
        if name in annotations:
            # A method's stages are those of the run.
            if name in own and name not in (*parameters, "stages"):
                raise ConfigError(
                    f"'{name}' is a setting of the run and a parameter of method '{found['method']}'; for the "
                    f'parameter say parameters={{"{name}": {value}}}'
                )
        elif name in own or "." in name:
            parameters[name] = _value(value)
        else:
            raise UnknownNameError("model argument", name, [*annotations, *own])
    return {**found, **({"parameters": parameters} if parameters else {})}


def _parameters(method: str) -> list[str]:
    """Names of a method's parameters; of a composition's parts, with the part."""
    check("method", method)
    parts = parts_of(method)
    if len(parts) == 1:
        return [f.name for f in fields(method_class(method))]
    return [f"{part}.{f.name}" for part in parts for f in fields(method_class(part))]


def _table(value: Any) -> dict[str, Any]:
    found = scalar(value.strip().strip("'")) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise ConfigError(f'parameters must be a table, say parameters={{"layer": 3}}, not {value!r}')
    return dict(found)


def _plain(value: Any, annotation: Any) -> Any:
    if isinstance(value, str) and is_list(annotation):
        return tuple(value.split("+"))
    return value


def _value(value: Any) -> Any:
    """lmms-eval makes -1 a float, and leaves what is no number as text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return scalar(value) if isinstance(value, str) else value
