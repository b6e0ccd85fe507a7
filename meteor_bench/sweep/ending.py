"""The end of a sweep: one table of all methods and benchmarks, ratio by ratio, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from meteor_bench.sweep.cell import Result
from meteor_bench.sweep.grid import title

__all__ = ["failures", "print_table"]


def print_table(results: Sequence[Result], stream: IO[str]) -> None:
    """Print the runs that are there; nothing when none is."""
    from meteor_bench.report.cells import cells, load_run
    from meteor_bench.report.formats import terminal
    from meteor_bench.report.layout import overview

    paths = dict.fromkeys(result.path for result in results if result.path is not None)
    if paths:
        terminal(overview(cells([load_run(path) for path in paths])), stream)


def failures(results: Sequence[Result]) -> list[str]:
    """A line for each cell that failed."""
    return [
        f"failed: {title(result.run)} ({result.run.model}, {', '.join(result.run.tasks) or result.run.suite}): "
        f"{result.reason}"
        for result in results
        if result.reason
    ]
