"""Whether pictures in files of rows come from those files, or from inside the data root: before anyone decodes them.

``datasets`` keeps a picture as {bytes, path} and, where there are no bytes, opens the path, whatever stands there: any
file of the machine, and addresses of the network even where it is offline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from meteor_bench.utils.plain_text import shortened
from meteor_bench.utils.safe_files import UnsafeFile, json_rows, json_value, open_regular

__all__ = ["Place", "check_stored", "media_places", "outside"]

_TOGETHER = 64
_MEDIA = ("image", "audio", "video", "pdf", "nifti", "mesh")
# A column, and the fields of tables below it down to a value; lists on the way are looked through.
Place = tuple[str, ...]


def check_stored(file: Path, root: Path, declared: Iterable[Place] = ()) -> None:
    """Look at every picture without bytes.

    Args:
        file: parquet or JSON, whole as far as its footer says.
        root: the data root.
        declared: places that the data set's card calls pictures, sounds or videos.

    Raises:
        UnsafeFile: one is to be opened outside the root; names the row.
        OSError: the file cannot be read.
    """
    status = file.stat()
    _checked(file, root.resolve(), tuple(declared), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _checked(file: Path, root: Path, declared: tuple[Place, ...], size: int, changed_ns: int) -> None:
    """As the file was at that time; each of a suite's benchmarks asks for it several times."""
    for number, path in _parquet(file, declared) if file.suffix == ".parquet" else _json(file, declared):
        if outside(path, root):
            raise UnsafeFile(
                f"row {number} takes a picture from {shortened(path, 80)!r}; pictures come from their bytes or from an "
                "absolute path inside the data root"
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


def _paths(value: Any, place: Place | None = None) -> Iterator[str]:
    """Of a stored value, those that would be opened: in place of the bytes of a picture, anywhere in it.

    Args:
        place: of the text in it that is called a picture.
    """
    if isinstance(value, list):
        for one in value:
            yield from _paths(one, place)
    elif isinstance(value, Mapping):
        if value.get("bytes") is None and isinstance(value.get("path"), str):
            yield value["path"]
        for name, one in value.items():
            yield from _paths(one, place[1:] if place and place[0] == name else None)
    elif isinstance(value, str) and place == ():
        yield value


def _parquet(file: Path, declared: Iterable[Place]) -> Iterator[tuple[int, str]]:
    """Row and path of what may be opened by its path; where every picture has bytes, the footer says so."""
    import pyarrow.parquet as parquet

    with open_regular(file) as stream, parquet.ParquetFile(stream) as table:
        places = [(name, None) for name in dict.fromkeys(_without_bytes(table))]
        texts = [(column, tuple(rest)) for column, *rest in dict.fromkeys(_texts(table, declared))]
        names = list(dict.fromkeys(name for name, _ in (*places, *texts)))
        number = 0
        for batch in table.iter_batches(_TOGETHER, columns=names) if names else ():
            columns = {name: batch.column(name).to_pylist() for name in names}
            for row in range(len(batch)):
                for name, place in (*places, *texts):
                    yield from ((number, path) for path in _paths(columns[name][row], place))
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


def _texts(table: Any, declared: Iterable[Place]) -> Iterator[Place]:
    """Places of text that is called media: by the card, or by what ``datasets`` notes in the file itself."""
    schema = table.schema_arrow
    noted = (schema.metadata or {}).get(b"huggingface")
    features = json_value(noted) if noted else {}
    for step in ("info", "features"):
        features = features.get(step) if isinstance(features, Mapping) else None
    for column, *rest in dict.fromkeys((*declared, *_noted(features))):
        at = schema.get_field_index(column)
        if at >= 0 and _is_text(schema.field(at).type, rest):
            yield (column, *rest)


def _is_text(kind: Any, steps: Sequence[str]) -> bool:
    """Whether an Arrow type holds text at a place below it."""
    import pyarrow.types as kinds

    while kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        kind = kind.value_type
    if steps:
        at = kind.get_field_index(steps[0]) if kinds.is_struct(kind) else -1
        return at >= 0 and _is_text(kind.field(at).type, steps[1:])
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _noted(kind: Any, above: Place = ()) -> Iterator[Place]:
    """Media in features as ``datasets`` notes them: {name: {"_type": "List", "feature": {"_type": "Image"}}}."""
    if isinstance(kind, list):
        for one in kind:
            yield from _noted(one, above)
    elif isinstance(kind, Mapping):
        named = kind.get("_type")
        if not isinstance(named, str):  # a table: its fields by name
            for name, one in kind.items():
                yield from _noted(one, (*above, str(name)))
        elif above and named.lower() in _MEDIA:
            yield above
        else:
            yield from _noted(kind.get("feature"), above)


def media_places(head: Mapping[str, Any]) -> list[Place]:
    """What the head of a data set's card calls media."""
    about = head.get("dataset_info") or []
    entries = [about] if isinstance(about, Mapping) else about
    return list(dict.fromkeys(place for entry in entries for place in _said(entry.get("features"))))


def _said(kind: Any, above: Place = ()) -> Iterator[Place]:
    """Media in features as cards write them: [{name: a, list: image}, {name: b, struct: [{name: c, dtype: image}]}]."""
    if isinstance(kind, str):
        if above and kind in _MEDIA:
            yield above
    elif isinstance(kind, list):
        for field in kind:
            if isinstance(field, Mapping):
                yield from _said(_kind(field), (*above, str(field.get("name"))))
    elif isinstance(kind, Mapping):
        yield from _said(_kind(kind), above)


def _kind(feature: Mapping[str, Any]) -> Any:
    return next((feature[key] for key in ("dtype", "list", "sequence", "struct") if key in feature), None)


def _json(file: Path, declared: Iterable[Place]) -> Iterator[tuple[int, str]]:
    wanted = tuple(declared)
    if not wanted or file.suffix not in (".json", ".jsonl"):
        return
    for number, row in enumerate(json_rows(file)):
        for place in wanted:
            yield from ((number, path) for path in _paths(row, place))
