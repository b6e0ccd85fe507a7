"""Files that somebody else may have written: read with bounds, or refused in one line.

A file that is no regular one, is too large, nests too deeply, repeats itself without end or is of another encoding
raises `UnsafeFile`, a ValueError; what the system says (missing, not allowed) stays an OSError. Whoever reads names the
file and raises an error of its own tree.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

__all__ = [
    "DEPTH",
    "UnsafeFile",
    "begins_list",
    "gunzip",
    "json_lines",
    "json_rows",
    "json_value",
    "open_lock",
    "open_regular",
    "read_bytes",
    "read_json",
    "read_text",
]

MEBIBYTE = 1 << 20
SMALL = 64 * MEBIBYTE
"""A record, a manifest, a config."""
LARGE = 256 * MEBIBYTE
"""All samples of a run, unpacked."""
DEPTH = 64
"""Levels of lists and tables; our own files have five."""
LINES = 1_000_000


class UnsafeFile(ValueError):
    """A file that is not read; the message says why, without its name.

    Attributes:
        line: of JSON lines, the one that is wrong, from 1.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def open_regular(path: Path) -> BufferedReader:
    """A regular file for reading; a FIFO or a device, which may never end, is not opened for real.

    Raises:
        UnsafeFile: it is something else.
        OSError: it is missing, or may not be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte in its name
        raise UnsafeFile(str(error)) from None
    try:
        _check_regular(handle)
    except (OSError, UnsafeFile):
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def open_lock(path: Path) -> BinaryIO:
    """A file of our own for reading and appending, made where it is not there; never through a symbolic link.

    Raises:
        UnsafeFile: something else stands in its place.
        OSError: it cannot be made.
    """
    if path.is_symlink():
        raise UnsafeFile("it is a symbolic link, which is not followed; remove it")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        _check_regular(handle)
    except (OSError, UnsafeFile):
        os.close(handle)
        raise
    return cast("BinaryIO", os.fdopen(handle, "ab+"))


def _check_regular(handle: int) -> None:
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise UnsafeFile("it is no regular file (a pipe, a socket or a device)")


def read_bytes(path: Path, limit: int = SMALL) -> bytes:
    """The content of a regular file.

    Raises:
        UnsafeFile: it is something else, or larger than ``limit`` bytes.
        OSError: as for `open_regular`.
    """
    with open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise UnsafeFile(f"it is larger than {_size(limit)}")
    return content


def read_text(path: Path, limit: int = SMALL) -> str:
    """A text file in UTF-8, with or without a byte order mark; errors as for `read_bytes`."""
    return _decoded(read_bytes(path, limit))


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnsafeFile(f"it is not UTF-8 text (byte {error.start})") from None


def json_value(content: bytes | str) -> Any:
    """What a JSON text says.

    Raises:
        UnsafeFile: it is no JSON, nests more than `DEPTH` levels, or holds half of a surrogate pair.
    """
    text = _decoded(content) if isinstance(content, bytes) else content
    try:
        value = json.loads(text)
    except RecursionError:
        raise UnsafeFile(f"it nests more than {DEPTH} levels") from None
    except ValueError as error:  # no JSON, or a number of thousands of digits
        raise UnsafeFile(f"not JSON: {' '.join(str(error).split())}") from None
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(value)
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(value)
    return value


def read_json(path: Path, limit: int = SMALL) -> Any:
    """A JSON file; errors as for `read_bytes` and `json_value`."""
    return json_value(read_bytes(path, limit))


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH + 1):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, dict | list)
        ]
        if not level:
            return
    raise UnsafeFile(f"it nests more than {DEPTH} levels")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UnsafeFile("it holds half of a surrogate pair, which is no text") from None


def json_lines(stream: IO[bytes], limit: int = LARGE, *, blank: bool = False) -> Iterator[tuple[int, Any]]:
    """The values of JSON lines with their numbers, from 1, one at a time.

    Lines end in a newline and nothing else: JSON may hold U+2028, U+2029 and U+0085 as they are, which `str.splitlines`
    takes for line ends.

    Args:
        blank: blank lines are passed over instead of being no JSON.

    Raises:
        UnsafeFile: a line is no JSON (`UnsafeFile.line`), or there is too much of it.
    """
    number = total = 0
    while line := stream.readline(SMALL + 1):
        number, total = number + 1, total + len(line)
        if len(line) > SMALL:
            raise UnsafeFile(f"it is longer than {_size(SMALL)}", number)
        if total > limit:
            raise UnsafeFile(f"it is larger than {_size(limit)}")
        if number > LINES:
            raise UnsafeFile(f"it has more than {LINES} lines")
        if blank and not line.strip():
            continue
        try:
            yield number, json_value(line)
        except UnsafeFile as error:
            raise UnsafeFile(str(error), number) from None


def begins_list(stream: BinaryIO) -> bool:
    """Whether a file of JSON is one list, not lines; the stream is at its start again."""
    first = stream.read(1 << 16).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    stream.seek(0)
    return first == b"["


def json_rows(path: Path) -> Iterator[Any]:
    """The rows of a file of JSON lines, one at a time, or of one JSON list; blank lines are none.

    Raises:
        UnsafeFile: it is neither, or there is too much of it.
        OSError: as for `open_regular`.
    """
    with open_regular(path) as stream:
        if not begins_list(stream):
            yield from (row for _, row in json_lines(stream, blank=True))
            return
    rows = read_json(path, LARGE)
    if not isinstance(rows, list):
        raise UnsafeFile("it holds no list of rows")
    yield from rows


class _Gunzipped:
    """A gzip file's content piece by piece; every way in which it can be damaged is one error."""

    def __init__(self, stream: BinaryIO) -> None:
        if not stream.read(1):
            raise UnsafeFile("it is empty")
        stream.seek(0)
        self._stream = gzip.GzipFile(fileobj=stream)

    def readline(self, size: int = -1) -> bytes:
        return self._safely(self._stream.readline, size)

    def read(self, size: int = -1) -> bytes:
        return self._safely(self._stream.read, size)

    def _safely(self, read: Any, size: int) -> bytes:
        try:
            content: bytes = read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UnsafeFile(str(error)) from None
        return content


def gunzip(stream: BinaryIO) -> IO[bytes]:
    """A gzip file for `json_lines` or for reading with a limit: unpacked as it is read, never as a whole.

    Raises:
        UnsafeFile: while it is read, it is damaged or cut.
    """
    return cast("IO[bytes]", _Gunzipped(stream))


def _size(limit: int) -> str:
    return f"{limit // MEBIBYTE} MiB"
