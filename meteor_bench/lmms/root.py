"""A data root: a folder with data sets of the hub, from which lmms-eval's own tasks run offline.

    <root>/<org>/<repository>/README.md    its `configs:` name the files of every split
    <root>/<org>/<repository>/...          parquet (or JSON): what `hf download ... --local-dir` leaves
    <root>/<videos>/...                    where lmms-eval expects videos under HF_HOME

``datasets`` takes a folder ``<org>/<repository>`` of the working directory for the repository of that name, so a task
that is built there needs no change. Its cache, however, knows such a folder by its name alone: a second root would get
the first one's rows. Each root, with what its files hold, therefore has a cache of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from meteor_bench.errors import DataError
from meteor_bench.suites import Benchmark

__all__ = ["check", "digest", "entered", "stock_folder"]

_SHARD = re.compile(r"(.*-)(\d{5})(-of-(\d{5}).*)")


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
    for repository, config, split in _parts(row):
        files = _files(row, root, repository, config, split)
        found = sum(_count(row, root, repository, file) for file in files)
        if split is not None and found != row.n:
            raise DataError(
                f"{row.task}: {repository} has {found} rows in its split {split}, expected {row.n}; "
                f"fetch it again: {_fetch(root, repository)}"
            )
    if row.videos and not (root / row.videos).is_dir():
        raise DataError(f"{row.task}: no videos in {root / row.videos}; unpack those of {row.dataset} there")


def digest(row: Benchmark, root: Path) -> str:
    """SHA-256 of a benchmark's files wherever they lie; of its videos, names and sizes only."""
    total = hashlib.sha256()
    for repository, config, split in _parts(row):
        for file in _files(row, root, repository, config, split):
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


def _parts(row: Benchmark) -> Iterator[tuple[str, str | None, str | None]]:
    """Repository, config and split of everything that a benchmark reads; no split where any will do."""
    yield row.dataset, row.config, row.split
    for name in row.also:
        repository, _, config = name.partition(":")
        yield repository, config or None, None


def _fetch(root: Path, repository: str) -> str:
    return f"hf download {repository} --repo-type dataset --local-dir {root / repository}"


def _incomplete(row: Benchmark, root: Path, repository: str, missing: str) -> DataError:
    return DataError(
        f"{row.task}: {repository} is not whole, {missing} is missing; go on with: {_fetch(root, repository)}"
    )


def _files(row: Benchmark, root: Path, repository: str, config: str | None, split: str | None) -> list[Path]:
    """The files of a split, by the data set's card; where that lists none, by their names, as ``datasets`` does."""
    folder = root / repository
    card = folder / "README.md"
    if not card.is_file():
        raise DataError(f"{row.task}: no data set {repository} in {root}; fetch it: {_fetch(root, repository)}")
    listed = _card(card).get("configs")
    if not listed:
        found = sorted(f for f in folder.rglob("*.parquet") if split is None or split in f.name)
        missing = f"a file of the split {split}" if not found else _missing_shard(found)
        if missing:
            raise _incomplete(row, root, repository, missing)
        return found
    configs = {entry.get("config_name", "default"): entry.get("data_files") for entry in listed}
    if config is None and len(configs) == 1:
        config = next(iter(configs))
    patterns = _patterns(configs.get(config or "default"), split)
    if not patterns:
        wanted = " ".join(filter(None, (config, split)))
        raise DataError(f"{row.task}: the card of {repository} in {root} has no {wanted}: another version of it")
    found = []
    for pattern in patterns:
        matching = sorted(folder.glob(pattern))
        missing = pattern if not matching else _missing_shard(matching)
        if missing:
            raise _incomplete(row, root, repository, missing)
        found.extend(matching)
    return found


def _patterns(files: Any, split: str | None) -> list[str]:
    """Glob patterns of a split in a card's `data_files`."""
    if isinstance(files, Mapping):
        files = [{"split": name, "path": path} for name, path in files.items()]
    if isinstance(files, str) or (isinstance(files, list) and all(isinstance(f, str) for f in files)):
        files = [{"split": "train", "path": files}]
    paths = [f["path"] for f in files or () if split is None or f["split"] == split]
    return [p for path in paths for p in ([path] if isinstance(path, str) else path)]


def _card(file: Path) -> Mapping[str, Any]:
    """The YAML at the head of a data set's card."""
    parts = file.read_text(encoding="utf-8").split("---\n", 2)
    try:
        head = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
    except yaml.YAMLError as error:
        raise DataError(f"{file}: {' '.join(str(error).split())}; fetch it again") from None
    return head if isinstance(head, Mapping) else {}


def _missing_shard(files: list[Path]) -> str | None:
    """The first of "name-00001-of-00004.parquet" that is not there."""
    names = {file.name for file in files}
    for file in files:
        if match := _SHARD.fullmatch(file.name):
            for i in range(int(match[4])):
                name = f"{match[1]}{i:05}{match[3]}"
                if name not in names:
                    return name
    return None


def _count(row: Benchmark, root: Path, repository: str, file: Path) -> int:
    """Rows of a file, by its footer."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        if file.suffix == ".parquet":
            rows: int = parquet.read_metadata(file).num_rows
            return rows
        text = file.read_text(encoding="utf-8")
        return len(json.loads(text)) if text.lstrip().startswith("[") else len(text.splitlines())
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{row.task}: {file} is cut or no data ({reason}); remove it, then: {_fetch(root, repository)}"
        ) from None


@cache
def _content(file: Path, size: int, changed_ns: int) -> str:
    """SHA-256 of a file as it was at that time."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
