"""Bring the references of the shipped models up to date: the sweep of each folder's sweep.yaml, and its tables.

    python scripts/reference_pocket.py             # runs what is missing or stale, in every folder (`make tables`)
    python scripts/reference_pocket.py --only pocket-flops   # of one folder
    python scripts/reference_pocket.py --tables    # only the tables, from the records that are there
    python scripts/reference_pocket.py --only pocket --limit 4 --out /some/folder   # a trial of the same
    python scripts/reference_pocket.py --only pocket-video    # of long clips
    python scripts/reference_pocket.py --only natural    # of photographs, after `make natural`
    python scripts/reference_pocket.py --engine ray   # cells side by side, each on one core
    python scripts/reference_pocket.py --no-latency   # accuracy and counts, where the machine has other work

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
from meteor_bench.report.document import Document
from meteor_bench.report.render import document
from meteor_bench.report.runs import load
from meteor_bench.runs.sweep import runner, summary
from meteor_bench.utils.atomic_io import write_whole

FOLDERS = tuple(Path("results/reference") / name for name in ("pocket", "pocket-flops", "pocket-meteor"))
# Of photographs: they need `make natural`, so each is made when it is named.
NAMED = tuple(Path("results/reference") / name for name in ("natural", "natural-independent", "natural-flops"))
# Of long clips, on the model made for them.
VIDEO = Path("results/reference/pocket-video")
# Methods that came later than the folder of that name, and those whose rule has changed since, by newer code: each
# folder has an unpruned run of its own.
ADDED = {whole: tuple(whole.with_name(f"{whole.name}-{one}") for one in ("added", "changed")) for whole in FOLDERS[:2]}
# CoMP on the checkpoint that it has pruned, and token methods at the same FLOPs.
COMP = FOLDERS[0].with_name("pocket-comp")
ASKED_FOR = (*NAMED, VIDEO, *(one for later in ADDED.values() for one in later), COMP)


def config(folder: Path, **flags: Any) -> sweep_config.SweepConfig:
    """A reference's sweep, flags over it."""
    return sweep_config.load(folder / "sweep.yaml", flags)


def tables(folder: Path, made: Document) -> str:
    """The text of a reference's README.md: what a person wrote about it, and the tables of its records."""
    return f"{(folder / 'introduction.md').read_text(encoding='utf-8')}\n{made.render('markdown')}"


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


def write(folder: Path, out: Path) -> None:
    """The tables of the records in ``out``, and nothing there that is not worth committing."""
    for path in out.glob("*/*"):
        # What the records are made of, or what is made of them.
        if path.name in ("answers.jsonl", ".lock") or path.name.startswith("report."):
            path.unlink()
    made = document(load(out))
    write_whole(out / "README.md", tables(folder, made).encode())
    write_whole(out / "report.csv", made.render("csv").encode())


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description="Bring the references of the shipped models up to date.")
    parser.add_argument("--only", choices=[folder.name for folder in (*FOLDERS, *ASKED_FOR)], help="one of the folders")
    parser.add_argument("--tables", action="store_true", help="only rewrite the tables from the records")
    parser.add_argument("--limit", type=int, help="questions per benchmark, for a trial")
    parser.add_argument("--out", type=Path, help="another folder, for a trial of one of them")
    parser.add_argument("--engine", help="sequential or ray")
    parser.add_argument("--no-latency", action="store_false", dest="latency", default=None, help="no times")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    only_tables, only = given.pop("tables"), given.pop("only", None)
    if "out" in given and only is None:
        parser.error("--out is for a trial of one folder; add --only")
    failed = 0
    for folder in FOLDERS if only is None else (f for f in (*FOLDERS, *ASKED_FOR) if f.name == only):
        sweep = config(folder, **given)
        if only_tables or not run(sweep):
            write(folder, sweep.out)
        else:
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
