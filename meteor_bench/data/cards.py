"""Which files of a repository a benchmark reads: by the data set's card, else by their names, as ``datasets`` does."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from meteor_bench.data.stored_media import Place, media_places
from meteor_bench.data.suites import Benchmark
from meteor_bench.utils.safe_files import LARGE, UnsafeFile, begins_list, json_rows, open_regular
from meteor_bench.utils.safe_yaml import data as yaml_data

__all__ = ["Part", "Selection", "Unreadable", "count_rows", "matching", "media_of", "parts_of", "select", "trimmed"]

_SHARD = re.compile(r"(.*-)(\d{5})(-of-(\d{5}).*)")


class Unreadable(ValueError):
    """A card or a file of rows that is cut or no such thing; the message says why."""


class Part(NamedTuple):
    """What is read of a repository.

    Attributes:
        config: None where there is one only.
        split: None for all.
    """

    config: str | None
    split: str | None

    def __str__(self) -> str:
        return " ".join(filter(None, self)) or "data"


class Selection(NamedTuple):
    """Files of a part.

    Attributes:
        files: relative to the repository.
        missing: the first thing that the card or a shard's name promises and that is not there.
    """

    files: tuple[str, ...]
    missing: str | None = None


def parts_of(row: Benchmark) -> Iterator[tuple[str, Part]]:
    """Repository and part of everything that a benchmark reads; no split where any will do."""
    yield row.dataset, Part(row.config, row.split)
    for name in row.also:
        repository, _, config = name.partition(":")
        yield repository, Part(config or None, None)


def select(card: str, names: Collection[str], part: Part) -> Selection:
    """The files of a part among those that a repository (or its copy in a root) has.

    Args:
        card: text of its README.md.
        names: of its files, with "/".

    Raises:
        Unreadable: the card's head is no YAML.
    """
    names = sorted(name for name in names if not any(step.startswith(".") for step in name.split("/")))
    listed = _head(card)[0].get("configs")
    if not listed:
        found = [n for n in names if n.endswith(".parquet") and (not part.split or part.split in PurePosixPath(n).name)]
        return Selection(tuple(found), f"a file of {part}" if not found else _missing_shard(found))
    patterns = _patterns(_config(listed, part.config), part.split)
    if not patterns:
        return Selection((), f"{part} (its card names none: another version of it)")
    chosen: list[str] = []
    for pattern in patterns:
        found = matching(names, pattern)
        missing = pattern if not found else _missing_shard(found)
        if missing:
            return Selection((), missing)
        chosen += found
    return Selection(tuple(dict.fromkeys(chosen)))


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Names that a glob pattern of a card means."""
    from fsspec.utils import glob_translate

    wanted = re.compile(glob_translate(pattern.removeprefix("./")))
    return [name for name in names if wanted.match(name)]


def trimmed(card: str, parts: Collection[Part]) -> str:
    """A card that lists these parts alone.

    ``datasets`` prepares every split of a configuration that its card names, and will not work when the files of one
    are missing or the number of splits is another than `dataset_info` says.

    Raises:
        Unreadable: as for `select`.
    """
    head, body = _head(card)
    head = dict(head)
    listed = head.get("configs")
    if listed:
        head["configs"] = [
            {**entry, "data_files": files}
            for entry in listed
            if (files := _kept(entry.get("data_files"), _splits(_name(entry), len(listed), parts)))
        ]
    about = head.get("dataset_info")
    if about:
        several = about if isinstance(about, list) else [about]
        kept = []
        for entry in several:
            splits = _splits(_name(entry), len(several), parts)
            if splits:
                had = entry.get("splits") or []
                kept.append({**entry, "splits": [s for s in had if None in splits or s.get("name") in splits]})
        head["dataset_info"] = kept if isinstance(about, list) else (kept or [about])[0]
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n<!-- Without the splits that were not fetched: `meteor-bench data fetch`. -->\n{body}"


def media_of(card: str) -> list[Place]:
    """Places that a card calls pictures, sounds or videos; errors as for `select`."""
    return media_places(_head(card)[0])


def count_rows(file: Path) -> int:
    """Rows of a parquet (by its footer) or JSON file.

    Raises:
        Unreadable: it is cut or no data.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        if file.suffix == ".parquet":
            rows: int = parquet.read_metadata(file).num_rows
            return rows
        with open_regular(file) as stream:
            if not begins_list(stream):  # of any length, which is not read as JSON here
                return sum(1 for line in iter(lambda: stream.readline(LARGE), b"") if line.strip())
        return sum(1 for _ in json_rows(file))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise Unreadable(" ".join(str(error).split())) from None


class _Card(NamedTuple):
    """The YAML at the head of a card, and what follows."""

    head: Mapping[str, Any]
    body: str


@lru_cache(maxsize=8)  # a card is asked for several times; nobody changes what it says
def _head(card: str) -> _Card:
    """The YAML at the head of a card, and what follows."""
    parts = card.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return _Card({}, card)
    try:
        head = yaml_data(parts[1])
    except UnsafeFile as error:
        raise Unreadable(" ".join(str(error).split())) from None
    head = head if isinstance(head, Mapping) else {}
    _check(head)
    return _Card(head, parts[2])


def _check(head: Mapping[str, Any]) -> None:
    """Whether what is read here of a card has the form that ``datasets`` wants."""
    listed, about = head.get("configs") or [], head.get("dataset_info") or []
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        raise Unreadable("configs is no list of tables")
    for entry in listed:
        for part in _entries(entry.get("data_files")):
            paths = part.get("path") if isinstance(part, Mapping) and isinstance(part.get("split"), str) else None
            if not isinstance(paths, str) and not _texts(paths):
                raise Unreadable(f"data_files of {_name(entry)} is no list of splits with their paths")
    about = [about] if isinstance(about, Mapping) else about
    if not isinstance(about, list) or not all(isinstance(entry, Mapping) for entry in about):
        raise Unreadable("dataset_info is neither a table nor a list of tables")
    for entry in about:
        splits = entry.get("splits") or []
        if not isinstance(splits, list) or not all(isinstance(split, Mapping) for split in splits):
            raise Unreadable(f"dataset_info: splits of {_name(entry)} is no list of tables")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("config_name", "default"))


def _config(listed: Any, config: str | None) -> Any:
    """The `data_files` of a configuration; the only one where none is named."""
    configs = {_name(entry): entry.get("data_files") for entry in listed}
    if config is None and len(configs) == 1:
        return next(iter(configs.values()))
    return configs.get(config or "default")


def _splits(name: str, configs: int, parts: Collection[Part]) -> set[str | None]:
    """Splits that are wanted of a configuration; None among them for all."""
    return {p.split for p in parts if (p.config or "default") == name or (p.config is None and configs == 1)}


def _entries(files: Any) -> list[Mapping[str, Any]]:
    """A card's `data_files` in its longest form."""
    if isinstance(files, Mapping):
        return [{"split": name, "path": path} for name, path in files.items()]
    if isinstance(files, str) or (files and _texts(files)):
        return [{"split": "train", "path": files}]
    if files is not None and not isinstance(files, list):
        raise Unreadable("data_files is no list")
    return list(files or ())


def _kept(files: Any, splits: set[str | None]) -> list[Mapping[str, Any]]:
    return [f for f in _entries(files) if None in splits or f["split"] in splits]


def _patterns(files: Any, split: str | None) -> list[str]:
    paths = [f["path"] for f in _kept(files, {split})]
    return [p for path in paths for p in ([path] if isinstance(path, str) else path)]


def _missing_shard(files: Iterable[str]) -> str | None:
    """The first of "name-00001-of-00004.parquet" that is not there."""
    names = {PurePosixPath(file).name for file in files}
    for name in sorted(names):
        if match := _SHARD.fullmatch(name):
            for i in range(int(match[4])):
                wanted = f"{match[1]}{i:05}{match[3]}"
                if wanted not in names:
                    return wanted
    return None
