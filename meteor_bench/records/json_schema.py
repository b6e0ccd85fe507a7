"""The records' dataclasses as JSON Schema (draft 2020-12): the layout of a results folder for other programs."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from meteor_bench.records.schema import SCHEMA, LatencySample, RunRecord, SampleRecord

__all__ = ["record_schema"]

_FILES = {"run.json": RunRecord, "samples.jsonl.gz": SampleRecord, "latency.jsonl": LatencySample}
_SIMPLE: dict[Any, dict[str, str]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    types.NoneType: {"type": "null"},
    Any: {},
}


def record_schema() -> dict[str, Any]:
    """The schema of a record. At its top it is run.json; ``$defs`` has the other files' lines by the class's name."""
    definitions: dict[str, Any] = {}
    for kind in _FILES.values():
        _definition(kind, definitions)
    definitions["RunRecord"]["properties"]["schema"] = {"const": SCHEMA, "description": "version of this layout"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"meteor-bench record, version {SCHEMA}",
        "description": "; ".join(f"{file}: {kind.__name__}" for file, kind in _FILES.items()),
        "$ref": "#/$defs/RunRecord",
        "$defs": dict(sorted(definitions.items())),
    }


def _definition(kind: type, definitions: dict[str, Any]) -> None:
    definitions[kind.__name__] = definition = {}  # before its fields: a class may be met twice
    hints, said = get_type_hints(kind), _attributes(kind)
    properties = {}
    for field in fields(kind):
        properties[field.name] = _of(hints[field.name], definitions)
        if field.name in said:
            properties[field.name] = {**properties[field.name], "description": said[field.name]}
    definition.update(
        {
            "type": "object",
            "description": (inspect.getdoc(kind) or "").partition("\n")[0],
            "properties": properties,
            "required": [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING],
            "additionalProperties": False,
        }
    )


def _of(annotation: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The same types that `utils.structuring.fit` reads."""
    if annotation in _SIMPLE:
        return dict(_SIMPLE[annotation])
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(arg, definitions) for arg in args]}
    if origin in (tuple, list):
        return {"type": "array", "items": _of(args[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _of(args[1], definitions)}
    if is_dataclass(annotation) and isinstance(annotation, type):
        if annotation.__name__ not in definitions:
            _definition(annotation, definitions)
        return {"$ref": f"#/$defs/{annotation.__name__}"}
    raise TypeError(f"no schema for {annotation}")


def _attributes(kind: type) -> dict[str, str]:
    """Name -> what the class's docstring says of it."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.M)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}
