"""Bring results/reference/pocket up to date: the sweep of its sweep.yaml, and the tables made of the records.

    python scripts/reference_pocket.py             # runs what is missing or stale (`make tables`)
    python scripts/reference_pocket.py --tables    # only the tables, from the records that are there
    python scripts/reference_pocket.py --limit 4 --out /some/folder   # a trial of the same
    python scripts/reference_pocket.py --engine ray   # cells side by side, each on one core

Cells whose record has the fingerprint of what would be run now are kept, so an interrupted call can be repeated; with
a failed cell nothing is removed and the exit status is 1.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from meteor_bench.config import sweep_config
from meteor_bench.report.render import document
from meteor_bench.report.runs import load
from meteor_bench.runs.sweep import runner, summary
from meteor_bench.utils.atomic_io import write_whole

FOLDER = Path("results/reference/pocket")
INTRODUCTION = """# Reference: the pocket model

Made by `make tables` (`python scripts/reference_pocket.py`, the sweep of [sweep.yaml](sweep.yaml)) and checked by
`tests/test_reference.py`: these tables are what `meteor-bench report results/reference/pocket --format markdown` gives
for the records beside this file. Columns are explained in [results/README.md](../../README.md). `make tables` runs
again what was made by other code than today's; each record names its commit.

These records were made on 2026-11-27. Since then tome, visionzip, prumerge, prumerge+, sparsevlm and pyramiddrop
follow their authors' order of tokens and counts (CHANGELOG.md), so their rows are those of the code of then; all other
rows are what today's code gives, question by question, as far as docs/LOG.md (2026-11-30) says it was compared.

"""


def config(**flags: Any) -> sweep_config.SweepConfig:
    """The reference's sweep, flags over it."""
    return sweep_config.load(FOLDER / "sweep.yaml", flags)


def tables(folder: Path = FOLDER) -> str:
    """The text of the committed README.md."""
    return INTRODUCTION + document(load(folder)).render("markdown")


def run(sweep: sweep_config.SweepConfig) -> int:
    """Run what is missing, then keep nothing but the runs of this sweep; the number of failed cells."""
    results = runner.sweep(sweep)
    if failed := summary.failures(results):
        sys.stderr.write("\n".join(failed) + "\n")
        return len(failed)
    current = {result.path for result in results}
    for path in sweep.out.iterdir():
        if path.is_dir() and path not in current:
            shutil.rmtree(path)
    return 0


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description="Bring results/reference/pocket up to date.")
    parser.add_argument("--tables", action="store_true", help="only rewrite the tables from the records")
    parser.add_argument("--limit", type=int, help="questions per benchmark, for a trial")
    parser.add_argument("--out", type=Path, help="another folder, for a trial")
    parser.add_argument("--engine", help="sequential or ray")
    given = vars(parser.parse_args())
    only_tables = given.pop("tables")
    sweep = config(**{name: value for name, value in given.items() if value is not None})
    if not only_tables and run(sweep):
        return 1
    for path in sweep.out.glob("*/*"):
        # What the records are made of, or what is made of them, is not worth committing.
        if path.name in ("answers.jsonl", ".lock") or path.name.startswith("report."):
            path.unlink()
    write_whole(sweep.out / "README.md", tables(sweep.out).encode())
    write_whole(sweep.out / "report.csv", document(load(sweep.out)).render("csv").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
