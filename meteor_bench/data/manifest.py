"""What a data root should hold: a JSON file in it, written before anything is fetched and again as it comes."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from meteor_bench.core.errors import DataError
from meteor_bench.data.cards import matching
from meteor_bench.utils.atomic_io import write_whole
from meteor_bench.utils.safe_files import UnsafeFile, read_json
from meteor_bench.utils.structuring import PlainError, fit, plain

__all__ = [
    "NAME",
    "WORK",
    "Archive",
    "File",
    "Manifest",
    "Repository",
    "command",
    "inside",
    "pending",
    "read",
    "sha256",
    "write",
    "wrong",
]

NAME = "manifest.json"
WORK = ".meteor-bench"
"""Folder in a root for what is half done."""


@dataclass(frozen=True)
class File:
    """A file.

    Attributes:
        path: in its repository; of what was unpacked, in the root.
        size: bytes.
        sha256: the hub's for what it keeps in LFS, else our own, None as long as it has not been fetched.
        git: the hub's git digest of a small file, where it states no other.
        rows: None where it has none or has not been fetched.
    """

    path: str
    size: int
    sha256: str | None = None
    git: str | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Archive:
    """Videos in a zip file, or in a tar file that may be in parts; it is removed once unpacked.

    Attributes:
        folder: of the root, where they are unpacked.
        parts: its files, in order.
        unpacked: None as long as it is not.
    """

    folder: str
    parts: tuple[File, ...]
    unpacked: tuple[File, ...] | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.size for part in self.parts)

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same archive in another listing."""
        return tuple(f"{part.path} {part.sha256}" for part in self.parts)


@dataclass(frozen=True)
class Repository:
    """A data set.

    Attributes:
        commit: of the hub.
        fetched: when it was last fetched, UTC.
        tasks: benchmarks it was fetched for.
        videos: files that are videos themselves: folder of the root -> what lies in it by its path in the repository.
        revision: branch that the commit was of; None for the main one.
    """

    commit: str
    fetched: str
    tasks: tuple[str, ...]
    files: tuple[File, ...]
    archives: tuple[Archive, ...] = ()
    videos: Mapping[str, tuple[File, ...]] = field(default_factory=dict)
    revision: str | None = None

    def clips(self) -> Iterator[tuple[str, int]]:
        """Path in the root and size of all videos that are known."""
        for archive in self.archives:
            yield from ((file.path, file.size) for file in archive.unpacked or ())
        for folder, files in self.videos.items():
            yield from ((f"{folder}/{file.path}", file.size) for file in files)

    def with_file(self, file: File) -> Repository:
        """The same with other knowledge of a file."""
        return replace(self, files=tuple(file if f.path == file.path else f for f in self.files))

    def with_archive(self, archive: Archive) -> Repository:
        """The same with other knowledge of an archive."""
        return replace(self, archives=tuple(archive if a.key == archive.key else a for a in self.archives))


@dataclass(frozen=True)
class Manifest:
    """All data sets of a root, by repository."""

    schema: int = 1
    repositories: Mapping[str, Repository] = field(default_factory=dict)

    def with_repository(self, name: str, repository: Repository) -> Manifest:
        """The same with other knowledge of a data set."""
        return replace(self, repositories={**self.repositories, name: repository})


def read(root: Path) -> Manifest | None:
    """The manifest of a root, None where there is none.

    Raises:
        DataError: it cannot be read.
    """
    file = root / NAME
    if not file.exists():
        return None
    try:
        stat = file.stat()
        return _parsed(file, stat.st_ino, stat.st_mtime_ns)
    except (OSError, UnsafeFile, PlainError) as error:
        raise DataError(
            f"{file} cannot be read ({' '.join(str(error).split())}); remove it and fetch the data again: what is "
            "there is kept"
        ) from None


@lru_cache(maxsize=1)
def _parsed(file: Path, inode: int, changed_ns: int) -> Manifest:
    """As the file was at that time; each of a suite's benchmarks asks for it, and it may name tens of thousands."""
    found: Manifest = fit(read_json(file), Manifest)
    if found.schema != Manifest.schema:
        raise PlainError(("schema",), f"{found.schema}; this version reads {Manifest.schema}")
    for name, repository in found.repositories.items():
        _check_places(name, repository)
    return found


def _check_places(name: str, repository: Repository) -> None:
    """Nothing that a manifest names lies outside its root, whoever has written it; every archive has a part.

    Raises:
        PlainError: naming the place.
    """
    for key, archive in enumerate(repository.archives):
        if not archive.parts:
            raise PlainError(("repositories", name, "archives", key, "parts"), "expected at least one file")
    places = [name, *(archive.folder for archive in repository.archives), *repository.videos]
    places += [file.path for file in repository.files]
    places += [file.path for archive in repository.archives for file in (*archive.parts, *(archive.unpacked or ()))]
    places += [file.path for files in repository.videos.values() for file in files]
    for place in places:
        try:
            inside(place, "it")
        except DataError as error:
            raise PlainError(("repositories", name), str(error)) from None


def write(root: Path, manifest: Manifest) -> None:
    """Whole or not at all.

    Raises:
        RecordError: it cannot be written.
    """
    write_whole(root / NAME, (json.dumps(plain(manifest), indent=1) + "\n").encode())


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def wrong(path: Path, file: File) -> str | None:
    """What is not as it should be with the content of a file that lies at ``path``, None if all is well."""
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != file.size:
        return f"{size} of {file.size} bytes"
    if file.sha256 is not None:
        return None if sha256(path) == file.sha256 else "another content than its digest says"
    blob = hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False)  # how git names it
    return None if blob.hexdigest() == file.git else "another content than its digest says"


def inside(name: str, where: object) -> PurePosixPath:
    """A path that others chose, as it may be joined to a folder of ours.

    Raises:
        DataError: naming ``where``, it leaves that folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{where} names a place outside its folder: {name}")
    return path


def command(root: Path, tasks: Iterable[str]) -> str:
    """What fetches benchmarks into a root, to be typed."""
    return f"meteor-bench data fetch --task {','.join(dict.fromkeys(tasks))} --root {shlex.quote(str(root))}"


def pending(root: Path, repository: str, folder: str, archives: Iterable[str]) -> Iterator[str]:
    """Videos that a root should hold in a folder and does not: archives not yet unpacked, files gone, cut or not come.

    Args:
        archives: patterns of the archives that matter.

    Raises:
        DataError: as for `read`.
    """
    manifest = read(root)
    known = manifest.repositories.get(repository) if manifest else None
    patterns = list(archives)
    if known is None:
        return
    for archive in known.archives:
        if archive.unpacked is None and any(matching([archive.parts[0].path], pattern) for pattern in patterns):
            yield archive.parts[0].path
    for path, size in known.clips():
        there = root / path
        if path.startswith(f"{folder}/") and not (there.is_file() and there.stat().st_size == size):
            yield path
