"""Ranks as threads around one store: what they tell each other, and how each kind of failure ends all of them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
from torch.distributed import TCPStore

from meteor_bench.core.errors import ConfigError, DataError, RankError
from meteor_bench.runs.distributed.process_group import Limits, Place, Ranks, joined, place

QUICK = Limits(start=20, beat=0.02, silent=0.5, stuck=20, leave=1)
LAUNCHED = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "1"}


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, 1, True)


def together(store: TCPStore, *parts: Callable[[Ranks], Any], limits: Limits = QUICK) -> list[Any]:
    """Run each part as a rank; what each gave or raised."""
    came: list[Any] = [None] * len(parts)

    def be(rank: int) -> None:
        try:
            client = store if rank == 0 else TCPStore("127.0.0.1", store.port, 1, False)
            with Ranks(client, Place(rank, len(parts), rank), limits) as ranks:
                came[rank] = parts[rank](ranks)
        except (RankError, DataError, ZeroDivisionError) as error:
            came[rank] = error

    threads = [threading.Thread(target=be, args=(rank,)) for rank in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "nobody waits for ever"
    return came


def test_where_a_process_stands() -> None:
    assert place({}) is place({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert place(LAUNCHED) == Place(rank=1, world=4, local=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RANK": "4"}, "RANK must be from 0 to 3, not 4"),
        ({"WORLD_SIZE": "two"}, "must be numbers"),
        ({"MASTER_PORT": ""}, "start with torchrun or accelerate launch"),
    ],
)
def test_contradictions_are_one_line(change: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        place({**LAUNCHED, **change})


def test_alone_there_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks is None


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    for name, value in {**LAUNCHED, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RankError, match=f"rank 1 does not reach rank 0 at 127.0.0.1:{port}"), joined(Limits(start=0.2)):
        pass
    assert os.environ["RANK"] == "1", "the environment is as it was"


def test_words_and_bytes_of_any_length(store: TCPStore) -> None:
    big = bytes(range(256)) * 12_000  # three pieces

    def first(ranks: Ranks) -> list[bytes]:
        ranks.tell("plan", {"folder": "x", "n": 3})
        return [ranks.receive("answers", rank) for rank in (1, 2)]

    def other(ranks: Ranks) -> Any:
        ranks.send("answers", big if ranks.rank == 1 else b"")
        return ranks.hear("plan")

    plan = {"folder": "x", "n": 3}
    assert together(store, first, other, other) == [[big, b""], plan, plan]


def test_counts_add_up(store: TCPStore) -> None:
    def first(ranks: Ranks) -> int:
        ranks.count(5)
        most = 0

        def look() -> None:
            nonlocal most
            most = max(most, ranks.answered)

        ranks.receive("end", 1, look)
        return most

    def other(ranks: Ranks) -> None:
        ranks.count(7)
        threading.Event().wait(0.3)
        ranks.send("end", b"")

    assert together(store, first, other)[0] == 12


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_ends_the_others_with_its_message(store: TCPStore, failing: int) -> None:
    def fail(ranks: Ranks) -> None:
        raise DataError("row 3 is broken")

    def work(ranks: Ranks) -> None:
        until = monotonic() + 20
        while monotonic() < until:
            ranks.count(1)  # as an answer does

    def wait(ranks: Ranks) -> None:
        ranks.hear("something that never comes")

    parts = [work, wait, work]
    parts[failing] = fail
    came = together(store, *parts)
    message = f"rank {failing} has failed: row 3 is broken"
    assert [str(error) for rank, error in enumerate(came) if rank != failing] == [message] * 2
    # The rank itself says what it is, for all of them write to one terminal.
    assert str(came[failing]) == ("row 3 is broken" if failing == 0 else "rank 1: row 3 is broken")


def test_an_error_of_any_kind_is_told(store: TCPStore) -> None:
    def fail(ranks: Ranks) -> float:
        return 1 / 0

    came = together(store, lambda ranks: ranks.receive("x", 1), fail)
    assert str(came[0]) == "rank 1 has failed: ZeroDivisionError: division by zero"
    assert isinstance(came[1], ZeroDivisionError), "with its traceback"


def test_a_dead_rank_is_noticed(store: TCPStore) -> None:
    """As after kill -9: no thread of it lives, and it has said nothing."""

    def die(ranks: Ranks) -> None:
        ranks._leaving.set()
        ranks.hear("never")

    waits = QUICK._replace(stuck=2)
    came = together(store, lambda ranks: ranks.receive("x", 1), die, lambda ranks: ranks.hear("x"), limits=waits)
    assert str(came[0]) == str(came[2]) == "no sign of life from rank 1 for 0 s"


def test_a_stuck_rank_is_given_up(store: TCPStore) -> None:
    def hang(ranks: Ranks) -> None:
        ranks.hear("never")

    came = together(store, lambda ranks: ranks.receive("x", 1), hang, limits=QUICK._replace(stuck=0.3))
    assert "rank 1 has answered nothing" in str(came[0]) or "rank 0 has answered nothing" in str(came[1])
    assert all(isinstance(error, RankError) for error in came)


def test_those_who_are_done_may_leave(store: TCPStore) -> None:
    """The first scores and times alone, longer than a silent rank is waited for."""

    def first(ranks: Ranks) -> str:
        ranks.receive("x", 1)
        threading.Event().wait(0.8)
        ranks.count(3)
        return "scored"

    assert together(store, first, lambda ranks: ranks.send("x", b"1")) == ["scored", None]
