"""Progress of a run on stderr: a bar with the time left on a terminal, a line per part elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

__all__ = ["say", "track"]


def say(text: str) -> None:
    """One line for people."""
    from rich.console import Console

    # Made anew each time: the stream of the moment, whatever a test or a library has put there.
    Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True).print(text)


@contextmanager
def track(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a part of a run; the block is given a function that takes the number of steps done so far."""
    start = perf_counter()
    if sys.stderr.isatty():
        with _bar(title, total) as update:
            yield update
    else:
        say(f"{title}: {total} to do")
        yield lambda done: None
    say(f"{title}: done in {perf_counter() - start:.1f} s")


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Its own stream: lmms-eval's prints are silenced by exchanging sys.stdout and sys.stderr.
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True)
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
