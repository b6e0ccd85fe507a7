"""Questions without an answer, a sentence for each benchmark: hundreds may lack their video."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meteor_bench.core.request import FAILED
from meteor_bench.report.runs import Cell, Run

__all__ = ["failures"]


def failures(cells: Sequence[Cell], names: Callable[[Sequence[Cell]], Sequence[str]]) -> list[str]:
    """How many questions of which benchmark could not be answered, whose runs those were, and what the first lacked.

    Args:
        names: of some of the cells.
    """
    alike: dict[tuple[str, int], list[Cell]] = {}
    firsts: dict[str, str] = {}
    for cell in cells:
        # Seeds read the same files.
        for task, (count, first) in _of(cell.runs[0]).items():
            alike.setdefault((task, count), []).append(cell)
            firsts.setdefault(task, first)
    return [
        f"{', '.join(names(about))}: {count} question{'s' * (count > 1)} of {task} could not be answered and "
        f"{'count' if count > 1 else 'counts'} as wrong; the first: {firsts[task]}."
        for (task, count), about in alike.items()
    ]


def _of(run: Run) -> dict[str, tuple[int, str]]:
    """Benchmark -> how many, and what is said of the first."""
    found: dict[str, tuple[int, str]] = {}
    for note, count in run.scores.notes.items():
        if note.startswith(FAILED):
            task, _, why = note.removeprefix(FAILED).partition(": ")
            before, first = found.get(task, (0, why))
            found[task] = (before + count, first)
    return found
