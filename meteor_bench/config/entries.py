"""A method with settings as one text, as tables label it: "meteor[encode,fuse](budgets=uniform)"."""

from __future__ import annotations

import re
from typing import Any

from meteor_bench.config.yaml_settings import scalar
from meteor_bench.core.errors import ConfigError
from meteor_bench.utils.plain_text import shortened

__all__ = ["entry"]

_ENTRY = re.compile(r"(?P<method>[^][()]+)(\[(?P<stages>[^][()]*)])?(\((?P<settings>.*)\))?")
_COMMA = re.compile(r",(?![^\[]*])")  # outside of [a, b]


def entry(text: str) -> str | dict[str, Any]:
    """What a part of ``--methods`` means: a name as it is, one with stages or settings as the keys of an `Entry`.

    Values are YAML, as those of ``--param``: a list in square brackets, a number or a word.

    Raises:
        ConfigError: brackets that are not a pair, a setting that is no name=value, or one given twice.
    """
    if not re.search(r"[][()]", text):
        return text
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise ConfigError(f"expected NAME(setting=value, ...), found '{shortened(text, 80)}'")
    keys: dict[str, Any] = {"method": found["method"].strip()}
    if found["stages"] is not None:
        keys["stages"] = [stage.strip() for stage in found["stages"].split(",")]
    settings: dict[str, Any] = {}
    for part in filter(str.strip, _COMMA.split(found["settings"] or "")):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"expected NAME(setting=value, ...), found '{part.strip()}' in '{shortened(text, 80)}'")
        if name in settings:
            raise ConfigError(f"'{shortened(text, 80)}' has {name} twice")
        settings[name] = scalar(value)
    if "positions" in settings:
        keys["positions"] = settings.pop("positions")
    return {**keys, "parameters": settings}
