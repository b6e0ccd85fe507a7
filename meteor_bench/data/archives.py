"""Videos out of zip and tar files, into the folders in which lmms-eval looks for them."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from meteor_bench.core.errors import DataError
from meteor_bench.data.manifest import Archive, File, inside

__all__ = ["grouped", "unpack"]

_PART = re.compile(r"(.+\.tar)\.part.*|(.+\.tar)\.\w+")
_PIECE = 1 << 20


def grouped(files: Iterable[File], folder: str) -> list[Archive]:
    """Archives of these files; the parts of a tar file make one."""
    groups: dict[str, list[File]] = {}
    for file in sorted(files, key=lambda f: f.path):
        match = _PART.fullmatch(file.path)
        groups.setdefault((match[1] or match[2]) if match else file.path, []).append(file)
    return [Archive(folder, tuple(parts)) for parts in groups.values()]


def unpack(parts: Sequence[Path], folder: Path, root: Path, scratch: Path) -> tuple[File, ...]:
    """Write an archive's files into a folder, each whole or not at all.

    Args:
        root: what the paths of the answer are relative to.
        scratch: file for what is half written, on the same disk.

    Raises:
        DataError: it is broken, or names a place outside the folder.
    """
    scratch.parent.mkdir(parents=True, exist_ok=True)
    found = []
    try:
        with ExitStack() as stack:
            for name, stream in _members(parts, stack):
                target = folder / inside(name, parts[0])
                found.append(_written(stream, target, root, scratch))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise DataError(f"{parts[0]} cannot be unpacked ({' '.join(str(error).split())})") from None
    return tuple(found)


def _members(parts: Sequence[Path], stack: ExitStack) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file."""
    if parts[0].suffix == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(parts[0]))
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as stream:
                    yield info.filename, stream
        return
    joined = io.BufferedReader(_Joined([stack.enter_context(part.open("rb")) for part in parts]), _PIECE)
    packed = stack.enter_context(tarfile.open(fileobj=joined, mode="r|*"))
    for member in packed:
        content = packed.extractfile(member) if member.isfile() else None
        if content is not None:
            yield member.name, content


class _Joined(io.RawIOBase):
    """Files one behind the other."""

    def __init__(self, streams: list[IO[bytes]]) -> None:
        self._streams = streams

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while self._streams:
            piece = self._streams[0].read(len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            self._streams.pop(0)
        return 0


def _written(stream: IO[bytes], target: Path, root: Path, scratch: Path) -> File:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with scratch.open("wb") as copy:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += copy.write(piece)
    scratch.replace(target)
    return File(target.relative_to(root).as_posix(), size, digest.hexdigest())
