"""The journals that ranks left in a run's folder, made part of the run's own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from meteor_bench.core.errors import RecordError
from meteor_bench.utils.safe_files import LARGE, UnsafeFile, json_value, open_lock, read_bytes

__all__ = ["PATTERN", "append", "collect", "whole_lines"]

PATTERN = "answers.rank*.jsonl"


def collect(folder: Path) -> None:
    """Append what is in the ranks' journals and not in answers.jsonl, then remove them.

    A process that dies meanwhile leaves all of them; the next one does it again.
    """
    left = sorted(folder.glob(PATTERN))
    if left:
        try:
            append(folder / "answers.jsonl", [read_bytes(file, LARGE) for file in left])
        except (OSError, UnsafeFile) as error:
            raise RecordError(f"the answers of several processes in {folder} cannot be read: {error}") from None
        for file in left:
            file.unlink(missing_ok=True)


def append(journal: Path, contents: Iterable[bytes]) -> None:
    """Append the answers of other journals that a journal does not hold yet; they are on the disk afterwards."""
    with open_lock(journal) as stream:
        stream.seek(0)
        before = stream.read()
        whole = whole_lines(before)
        stream.truncate(len(whole))
        known = {_asked(line) for line in whole.split(b"\n") if line}
        for content in contents:
            for line in filter(None, whole_lines(content).split(b"\n")):
                if (asked := _asked(line)) not in known:
                    known.add(asked)
                    stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def whole_lines(content: bytes) -> bytes:
    """Without the torn last line that a killed process may leave."""
    return content[: content.rfind(b"\n") + 1]


def _asked(line: bytes) -> tuple[str, ...]:
    """What a line answers; a line that is no answer stands for itself, and the journal's reader names it."""
    try:
        answer = json_value(line)
        return (answer["fingerprint"], answer["key"], answer["request"])
    except (ValueError, KeyError, TypeError):
        return (line.decode(errors="replace"),)
