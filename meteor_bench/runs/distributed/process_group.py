"""The processes of one run and what they tell each other.

They talk through the key-value store that the launcher's address leads to (`torch.distributed`'s own, on a CPU and with
any number of GPUs alike). Nobody waits in a collective: every wait looks about twenty times a second whether the others
are alive, so that a rank that fails, is killed or hangs ends all of them, with its message where it could leave one.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, NamedTuple

from meteor_bench.core.errors import ConfigError, MeteorBenchError, RankError
from meteor_bench.utils.environment import quiet_libraries
from meteor_bench.utils.progress import mute

__all__ = ["Limits", "Place", "Ranks", "joined", "place"]

_PIECE = 1 << 20  # bytes of one value; the store takes 8 MB at most
_WHOLE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets all of them
_NAMES = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # what a launcher says; the values: where none says anything


class Limits(NamedTuple):
    """How long is waited, in seconds.

    Attributes:
        start: until all ranks have come.
        beat: between two signs of life.
        silent: without a sign of life, until a rank counts as dead.
        stuck: for a rank that lives without answering anything, a benchmark's first loading and a batch included.
        leave: for the others to have heard of a failure.
    """

    start: float = 300
    beat: float = 0.5
    silent: float = 120
    stuck: float = 3 * 3600
    leave: float = 5


LIMITS = Limits()


class Place(NamedTuple):
    """One of ``world`` processes: its number, from 0, among all and on its machine."""

    rank: int
    world: int
    local: int


@dataclass
class _Seen:
    """The last that was heard of a rank."""

    beat: bytes = b""
    count: int = 0
    alive: float = field(default_factory=monotonic)
    moved: float = field(default_factory=monotonic)


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Where a launcher has put this process; None where it is alone.

    Raises:
        ConfigError: the launcher's variables contradict each other.
    """
    if not all(name in environment for name in _WHOLE):
        return None  # left over from another launch, or from a scheduler that starts one process
    try:
        rank, world, local = (int(environment.get(name, default)) for name, default in _NAMES.items())
    except ValueError:
        said = {name: environment.get(name) for name in _NAMES}
        raise ConfigError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers, not {said}") from None
    if world <= 1:
        return None
    if not 0 <= rank < world:
        raise ConfigError(f"RANK must be from 0 to {world - 1}, not {rank}")
    if not (environment.get("MASTER_ADDR") and environment.get("MASTER_PORT")):
        raise ConfigError(
            f"WORLD_SIZE is {world} but nothing says where rank 0 is (MASTER_ADDR, MASTER_PORT); "
            "start with torchrun or accelerate launch"
        )
    return Place(rank, world, local)


@contextmanager
def joined(limits: Limits = LIMITS) -> Iterator[Ranks | None]:
    """The ranks of this run, None for a process alone; what fails inside fails on all of them.

    Raises:
        ConfigError: as for `place`.
        RankError: the others did not come; or this rank, or another, has failed.
    """
    here = place()
    if here is None:
        yield None
        return
    store = _meet(here, limits)
    # lmms-eval reads them too, and would deal out and gather by itself.
    kept = {name: os.environ.pop(name) for name in _NAMES if name in os.environ}
    try:
        with mute(here.rank > 0), Ranks(store, here, limits) as ranks:
            yield ranks
    finally:
        os.environ.update(kept)


def _meet(here: Place, limits: Limits) -> Any:
    quiet_libraries()  # before the first of them is imported
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=limits.start)))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = " ".join(str(error).split())
        raise RankError(f"rank {here.rank} does not reach rank 0 at {where}: {reason}") from error
    # A launcher that starts all of them again keeps its store.
    return PrefixStore(f"meteor-bench/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


class Ranks:
    """The processes of a run, seen by one of them, between the beginning and the end of its ``with`` block.

    Args:
        store: `torch.distributed.Store` that all of them share.
        place: of this one.
    """

    def __init__(self, store: Any, place: Place, limits: Limits) -> None:
        self.rank, self.world, self.local = place
        self._store, self._limits = store, limits
        self._others = range(1, self.world) if self.rank == 0 else range(1)
        self._seen = {rank: _Seen() for rank in self._others}
        self._count = 0
        self._ended: str | None = None
        self._leaving = threading.Event()
        self._watch = threading.Thread(target=self._beat, name="ranks", daemon=True)

    def __enter__(self) -> Ranks:
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Tell the others how it ended, and wait a little until they know, for the store may die with this process."""
        with suppress(RuntimeError):
            if error is not None and not self._store.check(["failed"]):
                self._store.set("failed", self._said(error))
            self._store.set(f"left/{self.rank}", "")
            if self.rank == 0:
                self._see_them_off(self._limits.leave if error is not None else self._limits.silent)
        self._leaving.set()
        self._watch.join(timeout=10)
        if self.rank > 0 and isinstance(error, MeteorBenchError) and not isinstance(error, RankError):
            raise RankError(f"rank {self.rank}: {error}") from error

    def _said(self, error: BaseException) -> str:
        if isinstance(error, RankError):
            return str(error)
        text = " ".join(str(error).split())
        if not isinstance(error, MeteorBenchError):
            text = f"{type(error).__name__}: {text}".removesuffix(": ")
        return f"rank {self.rank} has failed: {text}"

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes records and shows progress."""
        return self.rank == 0

    @property
    def answered(self) -> int:
        """Answers that all ranks together know of what is being asked, as far as was heard."""
        return self._count + sum(seen.count for seen in self._seen.values())

    def count(self, answered: int) -> None:
        """Tell the others how many answers this rank knows.

        Raises:
            RankError: another rank has failed.
        """
        self._count = answered
        self._check()

    def tell(self, name: str, value: Any) -> None:
        """Give the others plain data under a name of its own."""
        self._store.set(f"told/{name}", json.dumps(value))

    def hear(self, name: str) -> Any:
        """What rank 0 tells under a name; waits for it.

        Raises:
            RankError: a rank has failed.
        """
        return json.loads(self._await(f"told/{name}", 0))

    def send(self, name: str, content: bytes) -> None:
        """Bytes for rank 0, of any length."""
        pieces = [content[start : start + _PIECE] for start in range(0, len(content), _PIECE)]
        for number, piece in enumerate(pieces):
            self._store.set(f"sent/{name}/{self.rank}/{number}", piece)
        self._store.set(f"sent/{name}/{self.rank}", str(len(pieces)))

    def receive(self, name: str, rank: int, meanwhile: Callable[[], None] = lambda: None) -> bytes:
        """What a rank sends under a name; waits for it.

        Args:
            meanwhile: called again and again.

        Raises:
            RankError: a rank has failed.
        """
        pieces = int(self._await(f"sent/{name}/{rank}", rank, meanwhile))
        content = b""
        for number in range(pieces):
            key = f"sent/{name}/{rank}/{number}"
            content += bytes(self._await(key, rank))
            self._store.delete_key(key)
        return content

    def _await(self, key: str, rank: int, meanwhile: Callable[[], None] = lambda: None) -> bytes:
        waited = monotonic()
        while not self._ask(lambda: self._store.check([key])):
            self._check()
            meanwhile()
            moved = self._seen[rank].moved
            if monotonic() - max(moved, waited) > self._limits.stuck:
                raise RankError(f"rank {rank} has answered nothing for {self._limits.stuck:.0f} s; given up")
            sleep(0.05)
        value: bytes = self._ask(lambda: self._store.get(key))
        return value

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except RuntimeError as error:  # torch's DistError: the store's host is gone
            self._check()
            raise RankError(f"rank {self.rank} has lost rank 0: {' '.join(str(error).split())}") from error

    def _check(self) -> None:
        if self._ended is not None:
            raise RankError(self._ended)

    def _see_them_off(self, limit: float) -> None:
        until = monotonic() + limit
        while monotonic() < until and not self._store.check([f"left/{rank}" for rank in self._others]):
            sleep(0.05)

    def _beat(self) -> None:
        """In a thread: give signs of life, look for those of the others."""
        number = 0
        while not self._leaving.wait(self._limits.beat):
            number += 1
            try:
                self._store.set(f"beat/{self.rank}", f"{number} {self._count}")
                if self._store.check(["failed"]):
                    self._ended = self._ended or self._store.get("failed").decode()
                for rank, seen in self._seen.items():
                    self._look_at(rank, seen)
            except RuntimeError as error:
                self._ended = self._ended or f"rank {self.rank} has lost rank 0: {' '.join(str(error).split())}"
                return

    def _look_at(self, rank: int, seen: _Seen) -> None:
        key, now = f"beat/{rank}", monotonic()
        beat = self._store.get(key) if self._store.check([key]) else b""
        if beat != seen.beat:
            count = int(beat.split()[1])
            seen.moved = now if count != seen.count else seen.moved
            seen.beat, seen.count, seen.alive = beat, count, now
        elif now - seen.alive > self._limits.silent and not self._store.check([f"left/{rank}"]):
            self._ended = self._ended or f"no sign of life from rank {rank} for {self._limits.silent:.0f} s"
