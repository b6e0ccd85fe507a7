"""Whether pictures in files of rows come from those files, or from inside the data root: before anyone decodes them.

``datasets`` keeps a picture as {bytes, path} and, where there are no bytes, opens the path, whatever stands there: any
file of the machine, and addresses of the network even where it is offline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from meteor_bench.utils.safe_files import LARGE, UnsafeFile, json_lines, json_value, open_regular, read_json

__all__ = ["check_stored", "media_columns", "outside"]

_TOGETHER = 64
_MEDIA = ("image", "audio", "video", "pdf", "nifti", "mesh")


def check_stored(file: Path, root: Path, declared: Iterable[str] = ()) -> None:
    """Look at every picture without bytes.

    Args:
        file: parquet or JSON, whole as far as its footer says.
        root: the data root.
        declared: columns that the data set's card calls pictures, sounds or videos.

    Raises:
        UnsafeFile: one is to be opened outside the root; names the row.
        OSError: the file cannot be read.
    """
    status = file.stat()
    _checked(file, root.resolve(), tuple(declared), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _checked(file: Path, root: Path, declared: tuple[str, ...], size: int, changed_ns: int) -> None:
    """As the file was at that time; each of a suite's benchmarks asks for it several times."""
    rows = _parquet(file, declared) if file.suffix == ".parquet" else _json(file, declared)
    for number, value in rows:
        for path in _paths(value):
            if outside(path, root):
                shown = path if len(path) <= 80 else f"{path[:77]}..."
                raise UnsafeFile(
                    f"row {number} takes a picture from {shown!r}; pictures come from their bytes or from an absolute "
                    "path inside the data root"
                )


def outside(path: str, root: Path) -> bool:
    """Whether a path leads anywhere but to a place inside a root: elsewhere, to the network, or wherever one stands.

    Args:
        root: resolved.
    """
    if "://" in path or "::" in path or not Path(path).is_absolute():
        return True
    try:
        return not Path(path).resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a zero byte
        return True


def _paths(value: Any) -> Iterator[str]:
    """Of a stored value, those that would be opened."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if value.get("bytes") is None and isinstance(value.get("path"), str):
            yield value["path"]
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one)


def _parquet(file: Path, declared: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Row and value of what may be opened by its path; where every picture has bytes, the footer says so."""
    import pyarrow.parquet as parquet

    with open_regular(file) as stream, parquet.ParquetFile(stream) as table:
        names = [*dict.fromkeys((*_without_bytes(table), *_texts(table, declared)))]
        number = 0
        for batch in table.iter_batches(_TOGETHER, columns=names) if names else ():
            columns = [batch.column(name).to_pylist() for name in names]
            for values in zip(*columns, strict=True):
                yield from ((number, value) for value in values)
                number += 1


def _without_bytes(table: Any) -> Iterator[str]:
    """Columns of {bytes, path} in which some have no bytes, or nobody says that none has."""
    about, leaves = table.metadata, {}
    for at in range(len(table.schema)):
        leaves[table.schema.column(at).path] = at
    for path, at in leaves.items():
        stem, _, last = path.rpartition(".")
        if last != "bytes" or f"{stem}.path" not in leaves:
            continue
        for group in range(about.num_row_groups):
            found = about.row_group(group).column(at).statistics
            if found is None or not found.has_null_count or found.null_count:
                yield path.split(".")[0]
                break


def _texts(table: Any, declared: Iterable[str]) -> Iterator[str]:
    """Columns of text that are called media: by the card, or by what ``datasets`` notes in the file itself."""
    schema = table.schema_arrow
    noted = (schema.metadata or {}).get(b"huggingface")
    features = json_value(noted) if noted else {}
    for step in ("info", "features"):
        features = features.get(step) if isinstance(features, Mapping) else None
    own = [name for name, kind in features.items() if _is_media(kind)] if isinstance(features, Mapping) else []
    import pyarrow.types as kinds

    for name in dict.fromkeys((*declared, *own)):
        at = schema.get_field_index(name)
        if at >= 0 and (kinds.is_string(schema.field(at).type) or kinds.is_large_string(schema.field(at).type)):
            yield name


def _is_media(kind: Any) -> bool:
    return isinstance(kind, Mapping) and str(kind.get("_type", "")).lower() in _MEDIA


def media_columns(head: Mapping[str, Any]) -> list[str]:
    """Columns that the head of a data set's card calls media."""
    about = head.get("dataset_info") or []
    found = []
    for entry in [about] if isinstance(about, Mapping) else about:
        listed = entry.get("features") or []
        for feature in listed if isinstance(listed, list) else []:
            if isinstance(feature, Mapping) and (feature.get("dtype") in _MEDIA or feature.get("list") in _MEDIA):
                found.append(str(feature.get("name")))
    return list(dict.fromkeys(found))


def _json(file: Path, declared: Iterable[str]) -> Iterator[tuple[int, Any]]:
    wanted = tuple(declared)
    if not wanted or file.suffix not in (".json", ".jsonl"):
        return
    with open_regular(file) as stream:
        listed = stream.read(1 << 16).lstrip()[:1] == b"["
        stream.seek(0)
        rows = read_json(file, LARGE) if listed else (row for _, row in json_lines(stream))
        for number, row in enumerate(rows):
            if isinstance(row, Mapping):
                yield from ((number, row.get(name)) for name in wanted)
