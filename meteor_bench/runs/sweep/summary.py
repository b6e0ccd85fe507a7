"""The end of a sweep: one table of all methods and benchmarks, ratio by ratio, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from meteor_bench.runs.sweep.grid import title
from meteor_bench.runs.sweep.task import Result

__all__ = ["failures", "print_table"]


def print_table(results: Sequence[Result], stream: IO[str]) -> None:
    """Print the runs that are there; nothing when none is."""
    from meteor_bench.report.formats import terminal
    from meteor_bench.report.layout import overview
    from meteor_bench.report.runs import cells, load_run

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
