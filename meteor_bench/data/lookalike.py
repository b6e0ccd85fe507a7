"""A data root that says of itself that its data are look-alikes, and how many rows each benchmark has there.

`scripts/make_lookalikes.py` leaves such a file. Everything works on such a root as on real data, and says what it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from meteor_bench.core.errors import DataError
from meteor_bench.data.suites import Benchmark
from meteor_bench.utils.atomic_io import write_whole
from meteor_bench.utils.safe_files import read_json
from meteor_bench.utils.structuring import PlainError, fit, plain

__all__ = ["counted", "declare", "rows"]

NAME = "lookalike.json"


@dataclass(frozen=True)
class _Declaration:
    rows: Mapping[str, int]


def rows(root: Path | None) -> Mapping[str, int] | None:
    """Rows by benchmark; None for a root of real data.

    Raises:
        DataError: the file cannot be read.
    """
    file = root / NAME if root is not None else None
    if file is None or not file.exists():
        return None
    try:
        found: _Declaration = fit(read_json(file), _Declaration)
    except (OSError, ValueError, PlainError) as error:
        raise DataError(f"{file}: {' '.join(str(error).split())}; make the look-alikes again") from None
    return found.rows


def counted(row: Benchmark, root: Path | None) -> Benchmark:
    """A benchmark with the number of rows that it has in a root: the table's, unless those are look-alikes."""
    found = rows(root) if row.stock else None
    return replace(row, n=found.get(row.task, row.n)) if found else row


def declare(root: Path, made: Mapping[str, int]) -> None:
    """Say of a root that these benchmarks are look-alikes, and those that it said it of before."""
    write_whole(root / NAME, json.dumps(plain(_Declaration({**(rows(root) or {}), **made})), indent=1).encode() + b"\n")
