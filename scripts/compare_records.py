"""Whether new runs give the answers, token counts and FLOPs of old ones, question by question.

    python scripts/compare_records.py results/reference/pocket results/runs

Runs are paired by model, method with its parameters, ratio, seed and benchmarks. A line for each pair; exit status 1
where any differs, and where nothing could be paired. Times are not compared.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.records.run_folder import find_runs
from meteor_bench.records.schema import RunRecord, SampleRecord

Key = tuple[str, str, float, int, tuple[str, ...]]


@dataclass(frozen=True)
class Difference:
    """Questions of a pair of runs that differ, by what differs."""

    questions: int
    missing: int
    answers: int
    tokens: int
    flops: int

    @property
    def none(self) -> bool:
        """Whether every question is there and equal."""
        return not (self.missing or self.answers or self.tokens or self.flops)


def key_of(record: RunRecord) -> Key:
    """What two runs must have in common to be the same run."""
    tasks = tuple(task.task for task in record.tasks)
    return (record.config.model, record.config.label, record.config.ratio, record.config.seed, tasks)


def complete(folder: Path) -> dict[Key, Path]:
    """The complete runs below a folder; of several alike the latest."""
    found: dict[Key, Path] = {}
    for path in sorted(find_runs(folder)):
        record = read_run(path)
        if record.status == "complete":
            found[key_of(record)] = path
    return found


def difference(old: Path, new: Path) -> Difference:
    """Compare the samples of two runs."""

    def by_question(path: Path) -> dict[tuple[str, int], SampleRecord]:
        return {(sample.task, sample.doc_id): sample for sample in read_samples(path)}

    before, after = by_question(old), by_question(new)
    both = [(before[at], after[at]) for at in before.keys() & after.keys()]
    return Difference(
        questions=len(both),
        missing=len(before.keys() ^ after.keys()),
        answers=sum((a.answer, a.score) != (b.answer, b.score) for a, b in both),
        tokens=sum(a.tokens != b.tokens for a, b in both),
        flops=sum(a.flops != b.flops for a, b in both),
    )


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="folder of runs")
    parser.add_argument("new", type=Path, help="folder of runs")
    given = parser.parse_args()
    old, new = complete(given.old), complete(given.new)
    pairs = sorted(old.keys() & new.keys())
    same = bool(pairs)
    for key in pairs:
        found = difference(old[key], new[key])
        same &= found.none
        said = "equal"
        if not found.none:
            said = f"{found.answers} answers, {found.tokens} token counts and {found.flops} FLOPs differ"
            said += f"; {found.missing} questions are in one of them only" if found.missing else ""
        print(f"{key[1]} at {key[2]:g} on {key[0]}, seed {key[3]}: {found.questions} questions: {said}")
    if not pairs:
        print("no run of the one folder has its like in the other", file=sys.stderr)
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
