"""What the host sends a device during a pass, kept there, so that the pass can be captured and replayed.

A copy that is captured reads the host's memory again at every replay, and that memory is somebody else's by then. So a
pass runs once while all that `core.host` sends is kept (`Sent.recording`), and from then on (`Sent.repeating`, which
a capture runs under) it is given what was kept, in the same order, and nothing is sent. That holds for as long as the
host would send the same again, which is looked at each time; what is a batch's own, its questions' ids, is written
into place before (`Sent.write`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Sent", "Stale", "drew", "made", "sent"]


class Stale(RuntimeError):
    """A pass sends something else than when it was kept, so that a replay of it would be wrong."""


@dataclass
class _Table:
    """What was sent at once.

    Attributes:
        host: the values, on the CPU.
        there: the same on the device.
        own: what of a batch's own it is, "" for what all batches of a shape have in common.
    """

    host: Tensor
    there: Tensor
    own: str


@dataclass
class Sent:
    """What a pass was sent, in order.

    Attributes:
        tables: one for each time that something was sent.
        constants: what it was given of things that are made once (`core.host.made_once`): a replay reads their memory,
            so they must outlive it.
        drawn: whether random numbers of a sample went into it: then it is good for no other sample.
    """

    tables: list[_Table] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    drawn: bool = False
    _next: int | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within the block, send as ever and keep what was sent."""
        self.tables.clear()
        self._next = None
        with self._active():
            yield

    @contextmanager
    def repeating(self) -> Iterator[None]:
        """Within the block, nothing is sent: what was kept is given.

        Raises:
            Stale: other values, or more or fewer of them, would have been sent.
        """
        self._next = 0
        with self._active():
            yield
        if self._next != len(self.tables):
            raise Stale(f"the host sent {len(self.tables)} tables, then {self._next}")

    @contextmanager
    def _active(self) -> Iterator[None]:
        self.constants.clear()
        before = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(before)

    def give(self, values: Tensor, send: Callable[[Tensor], Tensor], own: str) -> Tensor:
        """What stands on the device for the next values of the host."""
        if self._next is None:
            there = send(values)
            self.tables.append(_Table(values.clone(), there, own))
            return there
        table = self.tables[self._next] if self._next < len(self.tables) else None
        self._next += 1
        if table is None or table.own != own or (not own and not _same(table.host, values)):
            raise Stale("the host sends other tables each time")
        return table.there

    def write(self, own: str, values: Tensor) -> None:
        """Put a batch's own values, on the device already, where a replay finds them."""
        for table in self.tables:
            if table.own == own:
                table.there.copy_(values)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


_ACTIVE: ContextVar[Sent | None] = ContextVar("sent", default=None)


def sent(values: Tensor, send: Callable[[Tensor], Tensor], own: str = "") -> Tensor:
    """The host's values where they are wanted: sent, unless a pass is being repeated."""
    active = _ACTIVE.get()
    return send(values) if active is None else active.give(values, send, own)


def made(constant: Any) -> None:
    """A pass was given something that is made once."""
    active = _ACTIVE.get()
    if active is not None:
        active.constants.append(constant)


def drew() -> None:
    """A pass drew random numbers of a sample's own."""
    active = _ACTIVE.get()
    if active is not None:
        active.drawn = True
