"""Work shared out to threads: every piece once, each thread with its share of torch's, an end for all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from meteor_bench.engine.thread_pool import Workers, share_out


@pytest.mark.parametrize("hands", [1, 3])
def test_every_piece_is_done_once(hands: int) -> None:
    done: list[int] = []
    threads: set[str] = set()
    modes: set[bool] = set()
    together = threading.Barrier(hands)

    def use(item: int, ended: threading.Event) -> None:
        done.append(item)
        if (name := threading.current_thread().name) not in threads:
            threads.add(name)
            together.wait(30)  # fails unless all hands are at work at once
        modes.add(torch.is_inference_mode_enabled())

    with torch.inference_mode():
        share_out(iter(range(30)), use, Workers(hands, 1))
    assert sorted(done) == list(range(30))
    assert modes == {True}
    assert threads == {"MainThread"} if hands == 1 else len(threads) == hands
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("answer")]


def test_pieces_are_made_one_at_a_time() -> None:
    making = threading.Lock()

    def pieces() -> Iterator[int]:
        for number in range(20):
            assert making.acquire(blocking=False)
            time.sleep(0.001)
            making.release()
            yield number

    share_out(pieces(), lambda item, ended: None, Workers(4, 1))


def test_the_first_failure_ends_all() -> None:
    seen: list[bool] = []

    def use(item: int, ended: threading.Event) -> None:
        if item == 0:
            time.sleep(0.01)
            raise KeyError("first")
        seen.append(ended.wait(5))  # whoever is at something longer is told

    with pytest.raises(KeyError, match="first"):
        share_out(iter(range(100)), use, Workers(2, 1))
    assert seen == [True]


def test_what_cannot_be_made_is_raised() -> None:
    def pieces() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        share_out(pieces(), lambda item, ended: None, Workers(2, 1))


def test_a_crew_shares_torchs_threads() -> None:
    before, counts = torch.get_num_threads(), set[int]()
    share_out(iter(range(8)), lambda item, ended: counts.add(torch.get_num_threads()), Workers(2, 3))
    assert counts == {3} and torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("hands", "jobs", "portion"),
    [(1, 40, 14), (1, 16, 16), (2, 15, 8), (2, 70, 7), (2, 1, 1), (4, 3, 1), (4, 300, 4), (32, 9, 1), (2, 0, 1)],
)
def test_portions_are_alike(hands: int, jobs: int, portion: int) -> None:
    workers = Workers(hands, 1)
    assert workers.portion(jobs, 16) == portion
    rounds = -(-jobs // (portion * hands))
    assert jobs <= portion * hands * rounds and portion <= 16


@pytest.mark.parametrize(
    ("threads", "jobs", "workers"), [(1, 9, (1, 1)), (2, 9, (2, 1)), (2, 1, (1, 2)), (16, 9, (4, 4)), (3, 0, (1, 3))]
)
def test_as_many_hands_as_there_is_work_and_threads(
    threads: int, jobs: int, workers: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert Workers.on(torch.device("cpu"), jobs) == workers
    assert Workers.on(torch.device("cuda"), jobs) == (1, threads)
