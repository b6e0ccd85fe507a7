"""Ctrl-C and SIGTERM, told apart from code that merely raises what they raise.

A method's code may call `sys.exit` or raise KeyboardInterrupt. Neither is the user's will: it is that method's failure,
and what else was to be done is done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from meteor_bench.core.errors import PluginError

__all__ = ["Terminated", "contained", "exit_status", "watched"]


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a run as Ctrl-C does, with what was answered kept."""


class _Watch:
    """Whether signals are watched, and whether one has come."""

    active = False
    came = False


def _on_signal(number: int, frame: FrameType | None) -> None:
    _Watch.came = True
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def watched() -> Iterator[None]:
    """Inside, a KeyboardInterrupt is known to be somebody's will or not. Outside the main thread nothing changes.

    A signal that is ignored or handled by others (`nohup`, a debugger) is left to them.
    """
    usual: dict[int, signal.Handlers | Callable[[int, FrameType | None], Any]]
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = [n for n, handler in usual.items() if signal.getsignal(n) == handler]
    if threading.current_thread() is not threading.main_thread() or signal.SIGINT not in ours:
        yield
        return
    for number in ours:
        signal.signal(number, _on_signal)
    _Watch.active, _Watch.came = True, False
    try:
        yield
    finally:
        _Watch.active = False
        for number in ours:
            signal.signal(number, usual[number])


@contextmanager
def contained(where: str) -> Iterator[None]:
    """An attempt of the code inside to end the process is an error of its own.

    Args:
        where: whose code it is, for the message.

    Raises:
        PluginError: it called `sys.exit`, or raised KeyboardInterrupt though nobody interrupted it.
    """
    try:
        yield
    except SystemExit as error:
        raise PluginError(f"{where} tried to end the process: sys.exit({error.code!r})") from error
    except KeyboardInterrupt as error:
        if not _Watch.active or _Watch.came:
            raise
        raise PluginError(f"{where} raised KeyboardInterrupt, and nobody interrupted it") from error


def exit_status(error: KeyboardInterrupt) -> int:
    """What a shell expects: 128 and the number of the signal."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
