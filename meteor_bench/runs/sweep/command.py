"""The body of `meteor-bench sweep`: the course or the plan, then the table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.runs.sweep.estimate import FINISHED, Planned
from meteor_bench.runs.sweep.grid import title
from meteor_bench.utils.columns import columns, folded, terminal_width
from meteor_bench.utils.progress import detail, duration, warn

if TYPE_CHECKING:
    from meteor_bench.report.document import Document

__all__ = ["plan", "sweep", "told"]


def sweep(config: SweepConfig, write: Callable[[Document], None]) -> int:
    """Run a sweep.

    Args:
        write: prints its table.

    Returns:
        Exit status: 1 when a cell failed.

    Raises:
        MeteorBenchError: a wrong setting, or nothing can be done.
        KeyboardInterrupt: passed on.
    """
    detail("loading libraries and weights")
    from meteor_bench.runs.sweep import runner, summary

    results = runner.sweep(config)
    failed = summary.failures(results)
    for line in failed:
        warn(line)
    if failed:
        warn(f"{len(failed)} of {len(results)} cells failed; the same command tries them again")
    write(summary.document(results, config.out))
    return 1 if failed else 0


def plan(config: SweepConfig) -> int:
    """Say what a sweep would be; the exit status: 1 when a cell cannot be done.

    Raises:
        MeteorBenchError: a wrong setting.
    """
    detail("loading libraries and weights; what no record tells is tried on a few questions")
    from meteor_bench.runs.sweep import estimate

    planned = estimate.plan(config)
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
