"""The files of questions that come with the package: where they lie, and whether they are as they were made."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from meteor_bench.core.errors import DataError

__all__ = ["check_data", "tasks_dir"]


@cache
def tasks_dir() -> Path:
    """The folder with the benchmarks: beside the package in a checkout, inside it where it was installed.

    Raises:
        DataError: it is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_tasks", package.parent / "tasks"):
        if (folder / "suites.yaml").is_file():
            return folder
    raise DataError(f"no tasks folder in {package} or beside it; install meteor-bench again")


def check_data(folder: Path) -> str:
    """Compare each parquet file in ``folder`` with the digest in its name; SHA-256 over all of them.

    Raises:
        DataError: there is none, or one was changed or cut short.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: no parquet file")
    total = hashlib.sha256()
    for file in files:
        try:
            found = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from None
        if not file.stem.endswith(found[:12]):
            raise DataError(f"{file}: corrupted, its content does not match the digest in its name")
        total.update(found.encode())
    return total.hexdigest()
