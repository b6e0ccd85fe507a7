"""A folder of somebody's own pictures without answers: one question is asked about each.

Nobody says what is right, so a method is compared with the unpruned model's own answers (`runs.agreement`). As a
benchmark it is named "pictures/", or "pictures/: What is on the table?" with another question than `QUESTION`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from meteor_bench.core.errors import DataError
from meteor_bench.data.own_lines import Question, Read, undecodable
from meteor_bench.utils.plain_text import shortened, visible
from meteor_bench.utils.safe_files import LARGE, UnsafeFile, read_bytes

__all__ = [
    "AGREEMENT",
    "KINDS",
    "LIKENESS",
    "OWN",
    "QUESTION",
    "Source",
    "broken",
    "is_folder",
    "named",
    "read_pictures",
    "source",
    "state",
]

OWN = "own_"  # how the benchmarks of a user's own data are called: "own_photos"
AGREEMENT = "agreement,none"
"""The metric of such a benchmark: no accuracy, but how often an answer is the unpruned model's own."""
LIKENESS = "anls,none"
"""Beside it: the mean ANLS of both answers."""
QUESTION = "Describe the picture."
KINDS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_MARK = "/: "


class Source(NamedTuple):
    """What a benchmark's name says."""

    folder: Path
    question: str


def is_folder(name: str) -> bool:
    """Whether the name of a benchmark is that of a folder of pictures."""
    return name.endswith("/") or _MARK in name


def named(folder: Path, question: str | None) -> str:
    """The benchmark's name."""
    return f"{folder}/" if question is None else f"{folder}{_MARK}{question}"


def source(name: str) -> Source:
    """What a name says.

    Raises:
        DataError: there is no such folder, or the question is empty.
    """
    folder, mark, question = name.partition(_MARK)
    if mark and not question.strip():
        raise DataError(f"{folder}/: the question is empty; say one, or leave it out for: {QUESTION}")
    found = Path(folder or "/")
    if not found.is_dir():
        raise DataError(f"{found} is no folder of pictures")
    return Source(found, question if mark else QUESTION)


def state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Its pictures in the order of their names, folders below it included: path in it, size, time of the last change.

    Raises:
        DataError: there is none, one lies outside through a link, or the folder cannot be read.
    """
    found = []
    root = folder.resolve()
    for place, below, files in os.walk(root, onerror=_unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in files:
            path = Path(place, name)
            if path.suffix.lower() not in KINDS or name.startswith("."):
                continue
            if not path.resolve().is_relative_to(root):
                raise DataError(f"{folder / path.relative_to(root)}: its link leads outside the folder")
            try:
                status = path.stat()
            except OSError as error:
                raise DataError(f"{folder / path.relative_to(root)}: {error.strerror}") from None
            found.append((path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns))
    if not found:
        raise DataError(f"{folder} holds no picture ({', '.join(kind[1:] for kind in KINDS)})")
    return tuple(sorted(found))


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror}")


def read_pictures(folder: Path, names: tuple[str, ...], question: str) -> Read:
    """A question about each picture, those that cannot be decoded included; folders below are their groups.

    Raises:
        DataError: a file cannot be read.
    """
    questions = []
    for number, name in enumerate(names, 1):
        try:
            content = read_bytes(folder / name, LARGE)
        except (OSError, UnsafeFile) as error:
            raise DataError(f"{folder / name}: {getattr(error, 'strerror', None) or error}") from None
        group = visible(Path(name).parent.as_posix())  # bytes that are no UTF-8 are no text for a table
        questions.append(Question(number, question, ("",), (content,), group=None if group == "." else group))
    return Read(questions, "agreement")


def broken(folder: Path, names: tuple[str, ...]) -> str:
    """Of a folder's pictures the first that cannot be decoded, and why: "a.png cannot be decoded (...)"; else "".

    Every picture is decoded to its end.
    """
    wrong = []
    for name in names:
        why = undecodable(read_bytes(folder / name, LARGE))
        if why:
            wrong.append(f"{shortened(str(folder / name), 120)} {why}")
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return wrong[0] + more if wrong else ""
