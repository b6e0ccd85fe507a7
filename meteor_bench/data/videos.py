"""Whether a root has the videos that a benchmark's documents will ask for, by one column of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from meteor_bench.core.errors import DataError
from meteor_bench.data import manifest
from meteor_bench.data.cards import parts_of
from meteor_bench.data.root import files_of
from meteor_bench.data.suites import Benchmark
from meteor_bench.utils.safe_files import UnsafeFile, json_rows

__all__ = ["check_videos"]


def check_videos(row: Benchmark, root: Path, limit: int | None = None) -> None:
    """Look for every video by the names that lmms-eval will try.

    Args:
        row: its files are whole, as `data.root.check_files` says.
        limit: only those of so many documents.

    Raises:
        DataError: some are not there; how many, the first, and what to do.
    """
    if row.videos is None or row.clip is None:
        return
    folder, forms = root / row.videos, row.clip.split("|")
    column = _column(row.clip)
    asked = dict.fromkeys(map(str, islice(_values(row, root, column), limit)))
    for value in asked:
        manifest.inside(value, f"{row.task}: a row")
    names = [[form.replace(f"{{{column}}}", value) for form in forms] for value in asked]
    missing = [tried[0] for tried in names if not any((folder / name).exists() for name in tried)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise DataError(
            f"{row.task}: {len(missing)} of {len(names)} videos {are} missing in {folder}, the first is {missing[0]}; "
            f"{_remedy(row, root)}; or run with --skip-broken"
        )


def _remedy(row: Benchmark, root: Path) -> str:
    known = manifest.read(root)
    entry = known.repositories.get(row.dataset) if known else None
    if entry is not None and row.task in entry.tasks:
        return f"{row.dataset} has none of that name on the hub, put it there"  # else the manifest would lack a file
    return f"fetch it: {manifest.command(root, [row.task])}"


def _column(clip: str) -> str:
    match = re.search(r"\{(\w+)\}", clip)
    assert match is not None, f"{clip} names no column"
    return match[1]


def _values(row: Benchmark, root: Path, column: str) -> Iterator[Any]:
    """Of a column, document by document."""
    import pyarrow
    import pyarrow.parquet as parquet

    repository, part = next(parts_of(row))
    for file in files_of(row, root, repository, part):
        try:
            if file.suffix == ".parquet":
                if column not in parquet.read_schema(file).names:
                    raise KeyError(column)
                yield from parquet.read_table(file, columns=[column]).column(column).to_pylist()
            else:
                for found in json_rows(file):
                    if not isinstance(found, dict):
                        raise UnsafeFile("a row of it is no table")
                    yield found[column]
        except KeyError:
            raise DataError(f"{row.task}: {file} has no column {column}: another version of the data set") from None
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise DataError(f"{row.task}: {file} cannot be read ({' '.join(str(error).split())})") from None
