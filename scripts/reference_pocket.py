"""Bring results/reference/pocket up to date: the shipped model under each method, and the tables made of the records.

    python scripts/reference_pocket.py             # runs what is missing or stale (`make tables`)
    python scripts/reference_pocket.py --tables    # only the tables, from the records that are there

Cells whose record has the fingerprint of what would be run now are kept, so an interrupted call can be repeated.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from meteor_bench.config import RunConfig
from meteor_bench.report.cells import load
from meteor_bench.report.render import as_csv, as_markdown
from meteor_bench.run import execute, prepare

FOLDER = Path("results/reference/pocket")
METHODS = ("random", "fastv", "evoprune", "meteor")
RATIOS = (0.5, 0.76, 0.889)
SEEDS = {"random": (0, 1, 2)}
INTRODUCTION = """# Reference: the pocket model

Made by `make tables` (`python scripts/reference_pocket.py`) and checked by `tests/test_reference.py`: these tables are
what `meteor-bench report results/reference/pocket --format markdown` gives for the records beside this file. Columns
are explained in [results/README.md](../../README.md).

"""


def configs() -> Iterator[RunConfig]:
    """The unpruned model first: the others then find its record."""
    plain = RunConfig(out=FOLDER)
    yield plain
    for method in METHODS:
        for ratio in RATIOS:
            for seed in SEEDS.get(method, (0,)):
                yield replace(plain, method=method, ratio=ratio, seed=seed)


def tables() -> str:
    """The text of the committed README.md."""
    return INTRODUCTION + as_markdown(load(FOLDER))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Bring results/reference/pocket up to date.")
    parser.add_argument("--tables", action="store_true", help="only rewrite the tables from the records")
    if not parser.parse_args().tables:
        current = set()
        for config in configs():
            job = prepare(config)
            current.add(job.finished() or execute(config, job).path)
        for path in FOLDER.iterdir():
            if path.is_dir() and path not in current:
                shutil.rmtree(path)
    for path in FOLDER.glob("*/*"):
        # What the records are made of, or what is made of them, is not worth committing.
        if path.name in ("answers.jsonl", ".lock") or path.name.startswith("report."):
            path.unlink()
    (FOLDER / "README.md").write_text(tables(), encoding="utf-8")
    (FOLDER / "report.csv").write_text(as_csv(load(FOLDER)), encoding="utf-8")


if __name__ == "__main__":
    main()
