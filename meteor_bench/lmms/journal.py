"""Answers on disk as they are produced, so that a run that was killed goes on where it stopped.

One JSON object a line. A line counts when it ends in a newline: the torn last line of a killed process is dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from meteor_bench.core.errors import RecordError
from meteor_bench.utils.safe_files import UnsafeFile, json_lines, open_lock
from meteor_bench.utils.structuring import (
    PlainError,
    fit,
)

if TYPE_CHECKING:
    from meteor_bench.core.request import Answer, Request

__all__ = ["Journal"]

_PIECE = 1 << 16


class Journal:
    """The answers of one run.

    Args:
        path: the file; made when it is not there.
        fingerprint: of everything that can change an answer; lines with another one are left alone.

    Raises:
        RecordError: the file cannot be written, or a line of it is no answer.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint[:16]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = open_lock(path)
        except OSError as error:
            raise RecordError(f"cannot write {path}: {error.strerror}") from None
        except UnsafeFile as error:
            raise RecordError(f"cannot write {path}: {error}") from None
        try:
            self._known = self._read()
        except RecordError:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._known)

    def counts(self) -> Counter[str]:
        """Benchmark -> questions with an answer."""
        return Counter(key.partition("/")[0] for key in {key for key, _ in self._known})

    def get(self, request: Request) -> Answer | None:
        """The answer to exactly this request, None when there is none yet."""
        from meteor_bench.core.request import Answer

        line = self._known.get((request.key, _digest(request))) if self._known else None
        if line is None:
            return None
        return Answer(line["text"], line["tokens"], line["latency_ms"], line["flops"], tuple(line["notes"]))

    def add(self, request: Request, answer: Answer) -> None:
        """Append an answer; it survives the death of this process as soon as this returns."""
        line = {
            "fingerprint": self._fingerprint,
            "key": request.key,
            "request": _digest(request),
            "text": answer.text,
            "tokens": answer.tokens,
            "latency_ms": answer.latency_ms,
            "flops": answer.flops,
            "notes": answer.notes,
        }
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def _read(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Answers of this fingerprint; what follows the last newline is cut off."""
        self._file.truncate(_whole(self._file))
        self._file.seek(0)
        known: dict[tuple[str, str], dict[str, Any]] = {}
        at = 0
        try:
            for number, line in json_lines(self._file):
                at = number
                if line["fingerprint"] == self._fingerprint:
                    known[line["key"], line["request"]] = _answer(line)
        except UnsafeFile as error:
            place = self._path if error.line is None else f"{self._path}:{error.line}"
            raise RecordError(f"{place}: not an answer ({error}); delete the file to start anew") from None
        except (KeyError, TypeError, PlainError):
            raise RecordError(f"{self._path}:{at}: not an answer; delete the file to start anew") from None
        return known


@dataclass(frozen=True)
class _Line:
    """An answer as it is written."""

    fingerprint: str
    key: str
    request: str
    text: str
    tokens: Mapping[str, Any]
    latency_ms: Mapping[str, float]
    flops: Mapping[str, float]
    notes: tuple[str, ...]


def _answer(line: dict[str, Any]) -> dict[str, Any]:
    """A line whose parts are what they should be."""
    fit(line, _Line)
    return line


def _whole(stream: IO[bytes]) -> int:
    """Bytes up to the last newline, looked for from the end: a journal may be long, its last line is short."""
    end = stream.seek(0, 2)
    while end:
        start = max(0, end - _PIECE)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _digest(request: Request) -> str:
    """Hash of what was asked."""
    asked = [request.media_key, request.question, request.max_new_tokens, list(request.until)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
