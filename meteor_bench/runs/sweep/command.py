"""The body of `meteor-bench sweep`: the course or the plan, then the table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.runs.sweep.estimate import FINISHED, Planned
from meteor_bench.runs.sweep.grid import title
from meteor_bench.utils.columns import columns, folded, terminal_width
from meteor_bench.utils.progress import detail, duration, say

__all__ = ["sweep", "told"]


def sweep(config: SweepConfig, *, dry_run: bool = False) -> int:
    """Run a sweep, or say what it would be.

    Returns:
        Exit status: 1 when a cell failed.

    Raises:
        MeteorBenchError: a wrong setting, or nothing can be done.
        KeyboardInterrupt: passed on.
    """
    return _plan(config) if dry_run else _run(config)


def _run(config: SweepConfig) -> int:
    from meteor_bench.runs.sweep import runner, summary

    results = runner.sweep(config)
    summary.print_table(results, sys.stdout)
    failed = summary.failures(results)
    for line in failed:
        say(line)
    if failed:
        say(f"{len(failed)} of {len(results)} cells failed; the same command tries them again")
    sys.stdout.write(f"{config.out}\n")
    return 1 if failed else 0


def _plan(config: SweepConfig) -> int:
    detail("loading libraries and weights; what no record tells is tried on a few questions")
    from meteor_bench.runs.sweep.estimate import plan

    planned = plan(config)
    for line in told(planned, terminal_width()):
        sys.stdout.write(line + "\n")
    return 1 if any(cell.impossible for cell in planned) else 0


def told(planned: Sequence[Planned], width: int) -> list[str]:
    """A row for each cell, then those that cannot be done with the reason, then the whole; no line above ``width``."""
    rows = [
        (
            title(cell.run),
            cell.run.model,
            ",".join(cell.run.tasks) or cell.run.suite,
            duration(cell.seconds) if cell.seconds else "",
            _gib(cell.memory) if cell.memory else "",
            cell.source or cell.state,
        )
        for cell in planned
        if not cell.impossible
    ]
    heads = ("cell", "model", "on", "time", "memory", "from")
    lines = columns([heads, *rows], width)
    impossible = [cell for cell in planned if cell.impossible]
    for cell in impossible:
        lines += folded(f"impossible: {title(cell.run)} ({cell.run.model}): {cell.state}", width)
    finished = sum(cell.state == FINISHED for cell in planned)
    memory = max((cell.memory for cell in planned if cell.memory), default=0)
    lines += folded(
        f"{len(planned)} cells, {finished} finished, {len(impossible)} impossible; "
        f"about {duration(sum(cell.seconds for cell in planned))} one after another"
        + (f", about {_gib(memory)}" if memory else ""),
        width,
    )
    return lines


def _gib(memory: int) -> str:
    return f"{memory / 2**30:.1f} GiB"
