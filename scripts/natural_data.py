"""Make the questions and pictures of the natural benchmarks: `make natural` first, which ends with this.

    python scripts/natural_data.py
    python scripts/natural_data.py --only natural_pope --out some/where

They are made of the test split: things and backgrounds that training has not seen. A file's name ends in a digest of
its bytes, as the pocket benchmarks' do, and the task's YAML names it: a YAML that changes says that other versions of
the libraries made other pictures than those the committed tables are about. The files themselves are not tracked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from scripts.make_pocket_tasks import pictures, point_to, report, rows, write  # noqa: E402
from scripts.natural.world import BENCHMARK_KINDS, make, split_rng  # noqa: E402

QUESTIONS, PER_IMAGE = 300, 5
BLOCK = 20  # pictures whose questions come before those about the next ones: a limited run encodes few
FIRST_SEED = 7_000_000


def documents(benchmark: str) -> Iterator[dict[str, Any]]:
    """A benchmark's rows.

    Raises:
        DataError: a package is missing or another one.
    """
    first = FIRST_SEED + 10_000 * list(BENCHMARK_KINDS).index(benchmark)
    drawn = list(
        pictures(benchmark, "test", first, QUESTIONS, PER_IMAGE, make, BENCHMARK_KINDS, split_rng)  # type: ignore[arg-type]
    )
    index = 0
    for start in range(0, len(drawn), BLOCK):
        for row in rows(benchmark, drawn[start : start + BLOCK]):
            yield row | {"index": index, "question_id": f"{benchmark}-{index:04d}"}
            index += 1


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tasks", help="the tasks folder")
    parser.add_argument("--only", choices=list(BENCHMARK_KINDS), help="make one of them")
    args = parser.parse_args(arguments)
    try:
        for benchmark in BENCHMARK_KINDS:
            if args.only in (None, benchmark):
                path = write(list(documents(benchmark)), args.out / benchmark / "data", "test")
                point_to(path, args.out / benchmark / f"{benchmark}.yaml")
                report(path)
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
