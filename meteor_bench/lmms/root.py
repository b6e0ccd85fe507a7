"""A data root: a folder with data sets of the hub, from which lmms-eval's own tasks run offline.

    <root>/<org>/<repository>/README.md    its `configs:` name the files of every split
    <root>/<org>/<repository>/...          parquet (or JSON): what `meteor-bench data fetch` leaves
    <root>/<videos>/...                    where lmms-eval expects videos under HF_HOME

``datasets`` takes a folder ``<org>/<repository>`` of the working directory for the repository of that name, so a task
that is built there needs no change. Its cache, however, knows such a folder by its name alone: a second root would get
the first one's rows. Each root, with what its files hold, therefore has a cache of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from meteor_bench.data import manifest
from meteor_bench.data.cards import Part, Unreadable, count_rows, parts_of, select
from meteor_bench.errors import DataError
from meteor_bench.suites import Benchmark

__all__ = ["check", "digest", "entered", "stock_folder"]


@cache
def stock_folder(task: str) -> Path:
    """The folder of one of lmms-eval's own tasks; found without importing lmms-eval.

    Raises:
        DataError: the installed lmms-eval has none of that name.
    """
    spec = find_spec("lmms_eval")
    if spec is None or spec.origin is None:
        raise DataError("lmms-eval is not installed; install meteor-bench again")
    for file in (Path(spec.origin).parent / "tasks").rglob(f"{task}.yaml"):
        return file.parent
    raise DataError(f"the installed lmms-eval has no task {task}; this version of meteor-bench wants lmms-eval 0.7.3")


def check(row: Benchmark, root: Path) -> None:
    """Look for everything that a benchmark reads, without reading the rows.

    Raises:
        DataError: naming data set, file and remedy.
    """
    for repository, part in parts_of(row):
        files = _files(row, root, repository, part)
        found = sum(_count(row, root, file) for file in files)
        if part.split is not None and found != row.n:
            raise DataError(
                f"{row.task}: {repository} has {found} rows in its split {part.split}, expected {row.n}; "
                f"{_again(row, root)} (if it stays so, the hub has another version than this suite is for)"
            )
    if row.videos:
        _check_videos(row, root, row.videos)


def digest(row: Benchmark, root: Path) -> str:
    """SHA-256 of a benchmark's files wherever they lie; of its videos, names and sizes only."""
    total = hashlib.sha256()
    for repository, part in parts_of(row):
        for file in _files(row, root, repository, part):
            stat = file.stat()
            total.update(_content(file, stat.st_size, stat.st_mtime_ns).encode())
    if row.videos:
        videos = (f for f in sorted((root / row.videos).rglob("*")) if f.is_file())
        for file in videos:
            total.update(f"{file.relative_to(root)} {file.stat().st_size}\n".encode())
    return total.hexdigest()


@contextlib.contextmanager
def entered(row: Benchmark, root: Path) -> Iterator[None]:
    """Inside, lmms-eval finds this benchmark's data and videos under the root; tasks must be built in `root` itself."""
    import datasets
    from lmms_eval.api import task as api

    folder = str(_cache_folder(row, root, Path(_base(datasets.config.HF_DATASETS_CACHE))))
    before = {name: os.environ.get(name) for name in ("HF_HOME", "LMMS_EVAL_DATASETS_CACHE")}
    outside = datasets.config.HF_DATASETS_CACHE
    os.environ.update({"HF_HOME": str(root.resolve()), "LMMS_EVAL_DATASETS_CACHE": folder})
    datasets.config.HF_DATASETS_CACHE = Path(folder)  # for tasks that load a second data set by themselves
    api._resolve_hf_datasets_cache_dir.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        datasets.config.HF_DATASETS_CACHE = outside
        api._resolve_hf_datasets_cache_dir.cache_clear()


def _base(default: str | Path) -> str | Path:
    return os.environ.get("LMMS_EVAL_DATASETS_CACHE") or default


def _cache_folder(row: Benchmark, root: Path, base: Path) -> Path:
    """For the rows of this root as they are: another path or another content is another folder."""
    key = hashlib.sha256(f"{root.resolve()}\n{digest(row, root)}".encode()).hexdigest()[:16]
    return base / "meteor-bench" / key


def _again(row: Benchmark, root: Path) -> str:
    return f"fetch it: {manifest.command(root, [row.task])}"


def _files(row: Benchmark, root: Path, repository: str, part: Part) -> list[Path]:
    """The files of a part."""
    folder = root / repository
    card = folder / "README.md"
    if not card.is_file():
        raise DataError(f"{row.task}: no data set {repository} in {root}; {_again(row, root)}")
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    try:
        selection = select(card.read_text(encoding="utf-8"), names, part)
    except (OSError, Unreadable) as error:
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


def _check_videos(row: Benchmark, root: Path, folder: str) -> None:
    missing = list(manifest.pending(root, row.dataset, folder, row.archives))
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise DataError(
            f"{row.task}: the videos of {row.dataset} in {root} are not whole, {missing[0]}{more} missing; "
            f"{_again(row, root)}"
        )
    if not (root / folder).is_dir():
        known = manifest.read(root)
        entry = known.repositories.get(row.dataset) if known else None
        fetched = entry is not None and row.task in entry.tasks
        remedy = f"the hub has none for it; unpack those of {row.dataset} there" if fetched else _again(row, root)
        raise DataError(f"{row.task}: no videos in {root / folder}; {remedy}")


@cache
def _content(file: Path, size: int, changed_ns: int) -> str:
    """SHA-256 of a file as it was at that time."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
