"""What to fetch for benchmarks: repositories, commits, files, sizes; nothing but cards is fetched for that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from meteor_bench.core.errors import DataError
from meteor_bench.data.archives import grouped
from meteor_bench.data.cards import Part, Unreadable, matching, parts_of, select, trimmed
from meteor_bench.data.hub import Gone, Hub, Listing, Unreachable
from meteor_bench.data.manifest import WORK, Archive, File, Manifest, Repository
from meteor_bench.data.suites import Benchmark, benchmarks

__all__ = ["CARD", "Plan", "Problem", "make", "partial"]

CARD = "README.md"


class Problem(NamedTuple):
    """Why benchmarks cannot be had, in one line."""

    tasks: tuple[str, ...]
    line: str


@dataclass(frozen=True)
class Plan:
    """A data set to be fetched.

    Attributes:
        wanted: what it should come to.
        card: the data set's, cut to what is fetched.
        tasks: benchmarks of this call that read it.
    """

    name: str
    wanted: Repository
    card: str
    tasks: tuple[str, ...]

    def to_fetch(self) -> list[tuple[File, str]]:
        """Files of rows, those that are videos, those of archives that have not been unpacked; with their folders."""
        return [
            *((file, self.name) for file in self.wanted.files),
            *((file, folder) for folder, files in self.wanted.videos.items() for file in files),
            *((part, f"{WORK}/{self.name}") for a in self.wanted.archives if a.unpacked is None for part in a.parts),
        ]

    def size(self) -> int:
        """Bytes of these."""
        return sum(file.size for file, _ in self.to_fetch())

    def missing(self, root: Path) -> int:
        """Bytes that have to come from the hub, judged by sizes alone."""
        return sum(file.size - _have(root, self.name, file, root / folder) for file, folder in self.to_fetch())

    def space(self, root: Path) -> int:
        """Bytes that the disk must have free: an archive is removed once its videos are unpacked."""
        waiting = [archive for archive in self.wanted.archives if archive.unpacked is None]
        return self.missing(root) + max((archive.size for archive in waiting), default=0)


def partial(root: Path, repository: str, file: File) -> Path:
    """Where a file lies until it is whole; another version of it elsewhere."""
    return root / WORK / repository / f"{file.path}.{(file.sha256 or file.git or '')[:12]}"


class Planned(NamedTuple):
    """What is to be fetched, by repository, and what cannot be planned."""

    plans: list[Plan]
    problems: list[Problem]


def make(hub: Hub, rows: Sequence[Benchmark], root: Path, manifest: Manifest) -> Planned:
    """Plans by repository, and what cannot be planned.

    What a root has of a data set stays at the commit it is from, so that it is of one piece.

    Raises:
        DataError: the hub cannot be reached.
    """
    asked: dict[str, list[Benchmark]] = {}
    for row in rows:
        for repository, _ in parts_of(row):
            asked.setdefault(repository, []).append(row)
    plans, problems = [], []
    for name, readers in asked.items():
        known = manifest.repositories.get(name) if (root / name).is_dir() else None
        earlier = [benchmarks()[task] for task in (known.tasks if known else ()) if task in benchmarks()]
        try:
            plans.append(_plan(hub, name, readers, earlier, known, root))
        except Unreachable:
            raise  # it would be said of every data set
        except DataError as error:
            tasks = tuple(dict.fromkeys(row.task for row in readers))
            problems.append(Problem(tasks, f"{', '.join(tasks)}: {error}"))
    return Planned(plans, problems)


def _plan(
    hub: Hub,
    name: str,
    readers: Sequence[Benchmark],
    earlier: Sequence[Benchmark],
    known: Repository | None,
    root: Path,
) -> Plan:
    revision = next((row.revision for row in readers if row.dataset == name), None)
    again = f"remove {root / name} and fetch it again for the present one"
    if known is not None and known.revision != revision:
        here, read = known.revision or "main", revision or "main"
        raise DataError(f"{name}: what is here is of the hub's branch {here}, lmms-eval reads {read}; {again}")
    try:
        listing = hub.listing(name, known.commit if known else revision)
    except Gone:
        if known is None:
            raise DataError(f"{name} has no branch {revision} on the hub") from None
        raise DataError(f"{name}: the hub no longer has the commit that the manifest names; {again}") from None
    if CARD not in listing.files:
        raise DataError(f"{name} has no {CARD} on the hub, so that its splits cannot be told apart")
    card = hub.text(name, listing.commit, listing.files[CARD], root / WORK / name / CARD)
    everybody = {row.task: row for row in (*earlier, *readers)}
    parts = {part for row in everybody.values() for repository, part in parts_of(row) if repository == name}
    try:
        files = _chosen(name, card, listing, parts)
        cut = trimmed(card, parts)
    except Unreadable as error:
        raise DataError(f"{name}: its card on the hub is broken ({error})") from None
    done = {archive.key: archive for archive in known.archives} if known else {}
    shown = [row for row in everybody.values() if row.dataset == name]
    wanted = Repository(
        commit=listing.commit,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        tasks=tuple(sorted(everybody)),
        files=tuple(files),
        archives=tuple(done.get(archive.key, archive) for archive in _archives(listing, shown)),
        videos=_videos(listing, shown),
        revision=revision,
    )
    return Plan(name, wanted, cut, tuple(dict.fromkeys(row.task for row in readers)))


def _chosen(name: str, card: str, listing: Listing, parts: Iterable[Part]) -> list[File]:
    """Files of rows."""
    chosen: dict[str, File] = {}
    for part in sorted(parts, key=str):
        selection = select(card, listing.files, part)
        if selection.missing:
            raise DataError(f"{name} has no {selection.missing} on the hub at commit {listing.commit[:8]}")
        chosen |= {path: listing.files[path] for path in selection.files}
    return list(chosen.values())


def _archives(listing: Listing, rows: Iterable[Benchmark]) -> list[Archive]:
    """Of videos, by the rows' patterns; each once."""
    found: dict[tuple[str, ...], Archive] = {}
    for row in rows:
        for pattern in row.archives:
            folder, files = _matched(listing, row, pattern)
            found |= {archive.key: archive for archive in grouped(files, folder)}
    return list(found.values())


def _videos(listing: Listing, rows: Iterable[Benchmark]) -> dict[str, tuple[File, ...]]:
    """Files that are videos, by the rows' patterns and the folders they are put in; each once."""
    found: dict[str, dict[str, File]] = {}
    for row in rows:
        for pattern in row.files:
            folder, files = _matched(listing, row, pattern)
            found.setdefault(folder, {}).update((file.path, file) for file in files)
    return {folder: tuple(files.values()) for folder, files in found.items()}


class _Matched(NamedTuple):
    """Files of a pattern, and the folder of the root that they are for."""

    folder: str
    files: list[File]


def _matched(listing: Listing, row: Benchmark, pattern: str) -> _Matched:
    """Files of a pattern, and the folder of the root that they are for."""
    named = [listing.files[path] for path in matching(sorted(listing.files), pattern)]
    if not named:
        where = f"{row.dataset} has no {pattern} on the hub at commit {listing.commit[:8]}"
        raise DataError(f"{where}, which holds the videos of {row.task}")
    assert row.unpack is not None, f"{row.task}: videos without a folder"
    return _Matched(row.unpack, named)


def _have(root: Path, repository: str, file: File, folder: Path) -> int:
    for path in (folder / file.path, partial(root, repository, file)):
        if path.is_file() and path.stat().st_size <= file.size:
            return path.stat().st_size
    return 0
