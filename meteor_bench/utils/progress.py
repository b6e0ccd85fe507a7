"""Progress on stderr: a bar with the time left on a terminal, lines elsewhere.

A run shows its parts (`track`); a sweep shows its cells (`overall`), and of the parts of each only their bars.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from meteor_bench.utils.plain_text import visible

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["detail", "duration", "mute", "overall", "say", "size", "track"]


class _Overall(NamedTuple):
    """What is shown around the parts; no bar away from a terminal, and not even lines where it is muted."""

    bar: Progress | None
    muted: bool = False


_shown: ContextVar[_Overall | None] = ContextVar("shown", default=None)


def say(text: str) -> None:
    """One line for people."""
    text = visible(text)
    around = _shown.get()
    if around is not None and around.bar is not None:
        around.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        return
    if around is not None and around.muted:
        return
    from rich.console import Console

    # Made anew each time: the stream of the moment, whatever a test or a library has put there.
    Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True).print(text)


def detail(text: str) -> None:
    """One line about a part of a run; not said where many runs are shown together."""
    if _shown.get() is None:
        say(text)


def duration(seconds: float) -> str:
    """Seconds in a reader's unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes in a reader's unit: "3 kB", "12.5 MB", "95.1 GB"."""
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "kB" else f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"


@contextmanager
def mute(muted: bool = True) -> Iterator[None]:
    """Show nothing inside the block: of several processes at one run, one speaks."""
    token = _shown.set(_Overall(None, muted=True)) if muted else None
    try:
        yield
    finally:
        if token is not None:
            _shown.reset(token)


@contextmanager
def track(title: str, total: int, known: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a part of a run; the block is given a function that takes the number of steps done so far.

    Args:
        known: of the total, the steps that an earlier run has done.
    """
    start = perf_counter()
    around = _shown.get()
    if around is not None:
        with _line(around.bar, title, total, known) as update:
            yield update
    elif sys.stderr.isatty():
        if known:
            say(_to_do(title, total, known))
        with _bar() as bar, _line(bar, title, total, known) as update:
            yield update
    else:
        say(_to_do(title, total, known))
        yield lambda done: None
    detail(f"{title}: done in {perf_counter() - start:.1f} s")


def _to_do(title: str, total: int, known: int) -> str:
    return f"{title}: {known} known, {total - known} to do" if known else f"{title}: {total} to do"


@contextmanager
def overall(title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show many runs; the block is given a function that takes the number done and what to say of the time left."""
    if not sys.stderr.isatty():
        say(f"{title}: {total} to do")
        token = _shown.set(_Overall(None))
        try:
            yield lambda done, left: None
        finally:
            _shown.reset(token)
        return
    with _bar(estimate=False) as bar:
        task = bar.add_task(title, total=total, left="")
        token = _shown.set(_Overall(bar))
        try:
            yield lambda done, left: bar.update(task, completed=done, left=left)
        finally:
            _shown.reset(token)


@contextmanager
def _bar(*, estimate: bool = True) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    # With the time left in words a shorter bar, so that all of it fits into 80 columns.
    width = 40 if estimate else 16
    columns = (TextColumn("{task.description}"), BarColumn(width), MofNCompleteColumn(), TimeElapsedColumn())
    last = TimeRemainingColumn() if estimate else TextColumn("{task.fields[left]}")
    # Its own stream: lmms-eval's prints are silenced by exchanging sys.stdout and sys.stderr.
    with Progress(*columns, last, console=Console(file=sys.stderr), transient=True) as bar:
        yield bar


@contextmanager
def _line(bar: Progress | None, title: str, total: int, known: int) -> Iterator[Callable[[int], None]]:
    if bar is None:
        yield lambda done: None
        return
    # What is known says nothing of the speed; several processes count it anew, which must not set the bar back.
    task = bar.add_task(title, total=total, completed=known, left="")
    try:
        yield lambda done: bar.update(task, completed=max(done, known))
    finally:
        bar.remove_task(task)
