"""Pictures told apart as they are stored, without decoding them.

A task's `doc_to_visual` gets its document with stand-ins where the pictures are. A stand-in does what leaves the shown
picture determined by the stored one: it converts to another mode, and notes that. Lists are lists and empty fields are
None, as in the document itself. A task that does anything else with a stand-in, or shows anything else, is told nothing
about and its documents are decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

__all__ = ["Encoded"]


class Encoded:
    """A task's documents with their pictures as they are stored.

    Args:
        dataset: rows of ``datasets``; of anything else, nothing is told.
    """

    def __init__(self, dataset: Any) -> None:
        from datasets import Dataset

        self._rows = None
        # Rows in another format, or transformed, are not what is stored.
        if isinstance(dataset, Dataset) and dataset.format["type"] is None and _pictured(dict(dataset.features)):
            self._features = dataset.features
            self._rows = dataset.with_format("arrow")

    def key(self, doc_id: int, to_visual: Callable[..., Any]) -> str | None:
        """The same for documents that show the same stored pictures, in the same order and modes; None: decode them."""
        if self._rows is None:
            return None
        (row,) = self._rows[doc_id].to_pylist()
        tried: list[str] = []
        doc = {name: _with_stand_ins(kind, row[name], tried) for name, kind in self._features.items()}
        try:
            shown = to_visual(doc)
        except (Exception, SystemExit):  # a task's own code: with the pictures it works, or says what is wrong
            return None
        if tried or not isinstance(shown, list | tuple) or not all(isinstance(one, _StandIn) for one in shown):
            return None
        digests = [_digest(one) for one in shown]
        if not digests or None in digests:
            return None
        return hashlib.sha256(f"{digests}".encode()).hexdigest()[:16]


class _StandIn:
    """In the place of a picture.

    Args:
        stored: its bytes, or the path of its file.
        modes: to which it was converted.
        tried: whatever else is asked of it is noted here.
    """

    __slots__ = ("_modes", "_stored", "_tried")

    def __init__(self, stored: Mapping[str, Any], modes: tuple[str | None, ...], tried: list[str]) -> None:
        self._stored, self._modes, self._tried = stored, modes, tried

    def __getattribute__(self, name: str) -> Any:
        """Also what `isinstance` looks at where the type alone says no."""
        if name == "convert":
            return object.__getattribute__(self, name)
        _refuse(self, name)

    def __eq__(self, other: object) -> NoReturn:
        """Pictures compare by their pixels."""
        _refuse(self, "__eq__")

    __hash__ = None  # type: ignore[assignment]

    def convert(self, mode: str | None = None, *rest: Any, **more: Any) -> _StandIn:
        """As of a picture."""
        if rest or more:
            _refuse(self, "convert")
        stored, modes, tried = _inside(self)
        return _StandIn(stored, (*modes, mode), tried)


class _Inside(NamedTuple):
    """What stands in for a picture: its stored value, the modes it was converted to, and what was tried on it."""

    stored: Mapping[str, Any]
    modes: tuple[str | None, ...]
    tried: list[str]


def _inside(one: _StandIn) -> _Inside:
    stored, modes, tried = (object.__getattribute__(one, name) for name in ("_stored", "_modes", "_tried"))
    return _Inside(stored, modes, tried)


def _refuse(one: _StandIn, what: str) -> NoReturn:
    """Noted besides, for a task may catch the error, or ask by `hasattr`."""
    _inside(one)[2].append(what)
    raise AttributeError(f"{what}: the picture is not decoded")


def _digest(one: _StandIn) -> str | None:
    """Of the stored bytes and the modes; None where they are not on this machine."""
    stored, modes, _ = _inside(one)
    content = stored["bytes"]
    if content is None:
        try:
            content = Path(stored["path"] or "").read_bytes()
        except OSError:
            return None
    return f"{hashlib.sha256(content).hexdigest()} {modes}"


def _pictured(kind: Any) -> bool:
    """Whether there are pictures in a feature of ``datasets``."""
    from datasets import Image, LargeList, List

    if isinstance(kind, dict):
        return any(map(_pictured, kind.values()))
    if isinstance(kind, List | LargeList):
        return _pictured(kind.feature)
    return isinstance(kind, Image) and kind.decode


def _with_stand_ins(kind: Any, value: Any, tried: list[str]) -> Any:
    """What ``datasets`` makes of a stored value, except for pictures."""
    from datasets import Features, Image

    if value is None:
        return None
    if not _pictured(kind):
        return Features({"": kind}).decode_example({"": value})[""]
    if isinstance(kind, Image):
        return _StandIn(value, (kind.mode,), tried)
    if isinstance(kind, dict):
        return {name: _with_stand_ins(part, value[name], tried) for name, part in kind.items()}
    return [_with_stand_ins(kind.feature, one, tried) for one in value]
