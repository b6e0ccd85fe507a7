"""A method with settings as one text, as tables label it: "meteor[encode,fuse](budgets=uniform)"."""

from __future__ import annotations

import re
from typing import Any

from meteor_bench.config.spec import apart
from meteor_bench.config.yaml_settings import once, parameter
from meteor_bench.core.errors import ConfigError
from meteor_bench.utils.plain_text import shortened

__all__ = ["entry"]

_ENTRY = re.compile(r"(?P<method>[^][()]+)(\[(?P<stages>[^][()]*)])?(\((?P<settings>.*)\))?")


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
        keys["stages"] = apart(found["stages"])
    of = f"{keys['method']}(...)"
    settings = once([parameter(part, of) for part in apart(found["settings"] or "")], of)
    if "positions" in settings:
        keys["positions"] = settings.pop("positions")
    return {**keys, "parameters": settings}
