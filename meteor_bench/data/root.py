"""A data root: a folder with data sets of the hub, from which lmms-eval's own tasks run offline.

    <root>/<org>/<repository>/README.md    its `configs:` name the files of every split
    <root>/<org>/<repository>/...          parquet (or JSON): what `meteor-bench data fetch` leaves
    <root>/<videos>/...                    where lmms-eval expects videos under HF_HOME

Here: what a root holds for one benchmark. `lmms.root` lets lmms-eval read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from meteor_bench.core.errors import DataError
from meteor_bench.data import manifest
from meteor_bench.data.cards import Part, Unreadable, count_rows, media_of, parts_of, select
from meteor_bench.data.stored_media import check_stored
from meteor_bench.data.suites import Benchmark
from meteor_bench.utils.safe_files import UnsafeFile, read_text

__all__ = ["check_files", "digest", "files_of"]


def check_files(row: Benchmark, root: Path, *, whole: bool = True) -> None:
    """Look for everything that a benchmark reads, without reading the rows.

    Args:
        whole: also for every single video that the manifest names.

    Raises:
        DataError: naming data set, file and remedy.
    """
    for repository, part in parts_of(row):
        files = files_of(row, root, repository, part)
        _check_media(row, root, repository, files)
        found = sum(_count(row, root, file) for file in files)
        if part.split is not None and found != row.n:
            raise DataError(
                f"{row.task}: {repository} has {found} rows in its split {part.split}, expected {row.n}; "
                f"{_again(row, root)} (if it stays so, the hub has another version than this suite is for)"
            )
    if row.videos:
        _check_videos(row, root, row.videos, whole=whole)


def digest(row: Benchmark, root: Path) -> str:
    """SHA-256 of a benchmark's files wherever they lie; of its videos, names and sizes only."""
    total = hashlib.sha256()
    for repository, part in parts_of(row):
        for file in files_of(row, root, repository, part):
            stat = file.stat()
            total.update(_content(file, stat.st_size, stat.st_mtime_ns).encode())
    if row.videos:
        videos = (f for f in sorted((root / row.videos).rglob("*")) if f.is_file())
        for file in videos:
            total.update(f"{file.relative_to(root)} {file.stat().st_size}\n".encode())
    return total.hexdigest()


def _again(row: Benchmark, root: Path) -> str:
    return f"fetch it: {manifest.command(root, [row.task])}"


def files_of(row: Benchmark, root: Path, repository: str, part: Part) -> list[Path]:
    """The files of a part.

    Raises:
        DataError: one is missing.
    """
    folder = root / repository
    card = folder / "README.md"
    if not card.is_file():
        raise DataError(f"{row.task}: no data set {repository} in {root}; {_again(row, root)}")
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    try:
        selection = select(read_text(card), names, part)
    except (OSError, UnsafeFile, Unreadable) as error:
        raise DataError(f"{row.task}: {card} cannot be read ({error}); {_again(row, root)}") from None
    if selection.missing:
        raise DataError(
            f"{row.task}: {repository} in {root} is not whole, {selection.missing} is missing; {_again(row, root)}"
        )
    return [folder / name for name in selection.files]


def _count(row: Benchmark, root: Path, file: Path) -> int:
    try:
        return count_rows(file)
    except Unreadable as error:
        raise DataError(f"{row.task}: {file} is cut or no data ({error}); {_again(row, root)}") from None


def _check_media(row: Benchmark, root: Path, repository: str, files: Iterable[Path]) -> None:
    """Nothing outside the root is opened, and nobody asked over the network, whatever stands in a row."""
    import pyarrow

    declared = media_of(read_text(root / repository / "README.md"))
    for file in files:
        try:
            check_stored(file, root, declared)
        except UnsafeFile as error:
            raise DataError(f"{row.task}: {file}: {error}") from None
        except (OSError, pyarrow.ArrowException) as error:
            why = " ".join(str(error).split())
            raise DataError(f"{row.task}: {file} is cut or no data ({why}); {_again(row, root)}") from None


def _check_videos(row: Benchmark, root: Path, folder: str, *, whole: bool) -> None:
    missing = list(manifest.pending(root, row.dataset, folder, row.archives)) if whole else []
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise DataError(
            f"{row.task}: the videos of {row.dataset} in {root} are not whole, {missing[0]}{more} missing; "
            f"{_again(row, root)}"
        )
    if not (root / folder).is_dir():
        raise DataError(f"{row.task}: no videos in {root / folder}; {_again(row, root)}")


@cache
def _content(file: Path, size: int, changed_ns: int) -> str:
    """SHA-256 of a file as it was at that time."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
