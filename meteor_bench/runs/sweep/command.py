"""The body of `meteor-bench sweep`: flags into a `SweepConfig`, then the course or the plan, then the table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meteor_bench.config.yaml_settings import names, scalar
from meteor_bench.runs.sweep.estimate import FINISHED, Planned
from meteor_bench.runs.sweep.grid import SweepConfig, load, title
from meteor_bench.utils.progress import duration, say

__all__ = ["sweep", "told"]

_NUMBERS = ("ratios", "seeds")


def sweep(
    file: Path | None, lists: Mapping[str, str | None], single: Mapping[str, Any], *, dry_run: bool = False
) -> int:
    """Run a sweep, or say what it would be.

    Args:
        file: a YAML file, None for flags alone.
        lists: flags that hold a list separated by commas, as the user wrote them; None where not given.
        single: the other flags; None where not given.

    Returns:
        Exit status: 1 when a cell failed.

    Raises:
        MeteorBenchError: a wrong setting, or nothing can be done.
        KeyboardInterrupt: passed on.
    """
    given = {name: _list(name, text) for name, text in lists.items() if text is not None}
    config = load(file, {**given, **{name: value for name, value in single.items() if value is not None}})
    return _plan(config) if dry_run else _run(config)


def _list(name: str, text: str) -> list[Any]:
    parts = names(text)
    return [scalar(part) for part in parts] if name in _NUMBERS else parts


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
    from meteor_bench.runs.sweep.estimate import plan
    from meteor_bench.utils.progress import detail

    detail("loading libraries and weights")
    planned = plan(config)
    for line in told(planned):
        sys.stdout.write(line + "\n")
    return 1 if any(cell.impossible for cell in planned) else 0


def told(planned: Sequence[Planned]) -> list[str]:
    """A line for each cell, then those that cannot be done with the reason, then the whole."""
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
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows)
    ]
    impossible = [cell for cell in planned if cell.impossible]
    lines += [f"impossible: {title(cell.run)} ({cell.run.model}): {cell.state}" for cell in impossible]
    finished = sum(cell.state == FINISHED for cell in planned)
    memory = max((cell.memory for cell in planned if cell.memory), default=0)
    lines.append(
        f"{len(planned)} cells, {finished} finished, {len(impossible)} impossible; "
        f"about {duration(sum(cell.seconds for cell in planned))} one after another"
        + (f", about {_gib(memory)}" if memory else "")
    )
    return lines


def _gib(memory: int) -> str:
    return f"{memory / 2**30:.1f} GiB"
