"""Progress on stderr: a bar with the time left on a terminal, lines elsewhere.

A run shows its parts (`track`); a sweep shows its cells (`overall`), and of the parts of each only their bars. Inside
`quiet` only what went wrong is said (`warn`).
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

__all__ = ["detail", "duration", "mute", "overall", "quiet", "say", "size", "track", "warn"]


class _Overall(NamedTuple):
    """What is shown around the parts; no bar away from a terminal, and not even lines where it is muted."""

    bar: Progress | None
    muted: bool = False


_shown: ContextVar[_Overall | None] = ContextVar("shown", default=None)
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def say(text: str) -> None:
    """One line for people."""
    if not _quiet.get():
        warn(text)


def warn(text: str) -> None:
    """One line about what went wrong; it is said inside `quiet` too."""
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
def quiet(wanted: bool = True) -> Iterator[None]:
    """Show nothing inside the block but what went wrong."""
    token = _quiet.set(wanted or _quiet.get())
    try:
        yield
    finally:
        _quiet.reset(token)


@contextmanager
def track(title: str, total: int, known: int = 0, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show a part of a run; the block is given a function that takes the number of steps done so far.

    Args:
        known: of the total, the steps that an earlier run has done.
        unit: what a step is, in the plural; with it the speed is shown: "20.1 questions/s".
    """
    start = perf_counter()
    around = _shown.get()
    if _quiet.get():
        yield lambda done: None
    elif around is not None:
        with _line(around.bar, title, total, known, unit) as update:
            yield update
    elif sys.stderr.isatty():
        if known:
            say(_to_do(title, total, known))
        with _bar(speed=bool(unit)) as bar, _line(bar, title, total, known, unit) as update:
            yield update
    else:
        say(_to_do(title, total, known))
        yield lambda done: None
    seconds = perf_counter() - start
    detail(f"{title}: done in {seconds:.1f} s{_speed(total - known, seconds, unit)}")


def _speed(steps: float, seconds: float, unit: str) -> str:
    return f", {steps / seconds:.1f} {unit}/s" if unit and seconds > 0 else ""


def _to_do(title: str, total: int, known: int) -> str:
    return f"{title}: {known} known, {total - known} to do" if known else f"{title}: {total} to do"


@contextmanager
def overall(title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show many runs; the block is given a function that takes the number done and what to say of the time left."""
    if _quiet.get() or not sys.stderr.isatty():
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
def _bar(*, estimate: bool = True, speed: bool = False) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    # With the speed, or the time left in words, a shorter bar, so that all of it fits into 80 columns.
    width = 40 if estimate and not speed else 8 if speed else 16
    columns = (TextColumn("{task.description}"), BarColumn(width), MofNCompleteColumn(), TimeElapsedColumn())
    last = TimeRemainingColumn() if estimate else TextColumn("{task.fields[left]}")
    rate = [TextColumn("{task.fields[speed]}")] * speed
    # Its own stream: lmms-eval's prints are silenced by exchanging sys.stdout and sys.stderr.
    with Progress(*columns, last, *rate, console=Console(file=sys.stderr), transient=True) as bar:
        yield bar


@contextmanager
def _line(bar: Progress | None, title: str, total: int, known: int, unit: str) -> Iterator[Callable[[int], None]]:
    if bar is None:
        yield lambda done: None
        return
    # What is known says nothing of the speed; several processes count it anew, which must not set the bar back.
    task = bar.add_task(title, total=total, completed=known, left="", speed="")
    start = perf_counter()

    def update(done: int) -> None:
        done = max(done, known)
        bar.update(task, completed=done, speed=_speed(done - known, perf_counter() - start, unit).lstrip(", "))

    try:
        yield update
    finally:
        bar.remove_task(task)
