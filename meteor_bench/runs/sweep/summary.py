"""The end of a sweep: one table of all methods and benchmarks, ratio by ratio, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meteor_bench.report import render
from meteor_bench.report.document import Document
from meteor_bench.report.layout import overview
from meteor_bench.report.runs import cells, load_run
from meteor_bench.runs.sweep.grid import title
from meteor_bench.runs.sweep.task import Result

__all__ = ["document", "failures"]


def document(results: Sequence[Result], out: Path) -> Document:
    """The table of the runs that are there; JSON has the cells that failed besides.

    Args:
        out: their folder, which is named below.
    """
    paths = dict.fromkeys(result.path for result in results if result.path is not None)
    together = cells([load_run(path) for path in paths]) if paths else []

    def data() -> dict[str, Any]:
        failed = [
            {"cell": title(one.run), "model": one.run.model, "reason": one.reason} for one in results if one.reason
        ]
        made = render.document(together).data if together else None
        return {"folder": str(out), "failed": failed, **(made() if made else {"tables": {}, "runs": []})}

    return Document(
        lambda: overview(together),
        lambda: render.frames(together) if together else {},
        render.KEYS,
        data,
        tail=(str(out),),
    )


def failures(results: Sequence[Result]) -> list[str]:
    """A line for each cell that failed."""
    return [
        f"failed: {title(result.run)} ({result.run.model}, {', '.join(result.run.tasks) or result.run.suite}): "
        f"{result.reason}"
        for result in results
        if result.reason
    ]
