"""The journals that ranks left in a run's folder, made part of the run's own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["PATTERN", "append", "collect", "whole_lines"]

PATTERN = "answers.rank*.jsonl"


def collect(folder: Path) -> None:
    """Append what is in the ranks' journals and not in answers.jsonl, then remove them.

    A process that dies meanwhile leaves all of them; the next one does it again.
    """
    left = sorted(folder.glob(PATTERN))
    if left:
        append(folder / "answers.jsonl", [file.read_bytes() for file in left])
        for file in left:
            file.unlink(missing_ok=True)


def append(journal: Path, contents: Iterable[bytes]) -> None:
    """Append the answers of other journals that a journal does not hold yet; they are on the disk afterwards."""
    with journal.open("ab+") as stream:
        stream.seek(0)
        before = stream.read()
        whole = whole_lines(before)
        stream.truncate(len(whole))
        known = {_asked(line) for line in whole.splitlines()}
        for content in contents:
            for line in whole_lines(content).splitlines():
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
        answer = json.loads(line)
        return (answer["fingerprint"], answer["key"], answer["request"])
    except (ValueError, KeyError, TypeError):
        return (line.decode(errors="replace"),)
