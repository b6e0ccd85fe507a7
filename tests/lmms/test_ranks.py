"""A run dealt out to several ranks: each answers its documents, and together they are the run of one process.

Here the ranks take their turns in one process; as real processes, launched, failing and killed: tests/ranks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore

from meteor_bench.config.run_config import RunConfig
from meteor_bench.data import suites
from meteor_bench.lmms.evaluate import TaskResult, evaluate
from meteor_bench.runs.distributed.journals import collect
from meteor_bench.runs.distributed.process_group import LIMITS, Place, Ranks
from meteor_bench.runs.distributed.worker import answer_share
from tests.lmms.fakes import FakeSession, oracle

TASKS = ("pocket_pope", "pocket_videomme")
LIMIT = 7
PRINT = "f" * 64
ASKED = [f"{task}/{doc}" for task in TASKS for doc in range(LIMIT)]


def deal(folder: Path, world: int, attempt: str = "a") -> list[FakeSession]:
    """Let each rank answer its share, the first one last; their sessions."""
    store = HashStore()
    for name in (*(f"loaded {attempt} {task}" for task in TASKS), f"merged {attempt}"):
        store.set(f"told/{name}", "true")  # what the others would wait for
    sessions = []
    for rank in reversed(range(world)):
        session = oracle()
        ranks = Ranks(store, Place(rank, world, rank), LIMITS)
        answer_share(part(session), folder, ranks, attempt)
        sessions.insert(0, session)
    return sessions


def part(session: FakeSession) -> Any:
    config = RunConfig(tasks=TASKS, limit=LIMIT, batch_size=3)
    rows = tuple(suites.benchmark(task) for task in TASKS)
    return SimpleNamespace(
        session=session, config=config, benchmarks=rows, fingerprint=PRINT, questions=len(ASKED), title="unpruned"
    )


def score(session: Any, folder: Path, tasks: Sequence[str] = TASKS, limit: int = LIMIT) -> list[TaskResult]:
    """What one process makes of the questions that the journal does not answer."""
    journal = folder / "answers.jsonl"
    return evaluate(session, tasks, journal=journal, batch_size=3, limit=limit, fingerprint=PRINT)


@pytest.mark.parametrize("world", [2, 9], ids=["two", "more than documents"])
def test_ranks_together_are_the_run_of_one_process(tmp_path: Path, world: int) -> None:
    sessions = deal(tmp_path, world)
    for rank, session in enumerate(sessions):
        own = {key for key in ASKED if int(key.rpartition("/")[2]) % world == rank}
        # lmms-eval gives a rank without a document the first one.
        assert set(session.asked) == own or (world > LIMIT and set(session.asked) <= {f"{task}/0" for task in TASKS})
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]
    silent = oracle()
    assert score(silent, tmp_path) == score(oracle(), tmp_path / "alone")
    assert silent.asked == []


def test_what_any_rank_answered_before_is_not_asked_again(tmp_path: Path) -> None:
    """Begun by one process, left by three, ended by two."""
    first = FakeSession(lambda request: "yes")
    score(first, tmp_path, TASKS[:1], 3)
    deal(tmp_path / "others", 3)
    *whole, torn = (tmp_path / "others" / "answers.jsonl").read_bytes().splitlines(keepends=True)[-5:]
    (tmp_path / "answers.rank2-old.jsonl").write_bytes(b"".join(whole) + torn[: len(torn) // 2])
    collect(tmp_path)
    known = {json.loads(line)["key"] for line in whole} | {f"{TASKS[0]}/{doc}" for doc in range(3)}
    sessions = deal(tmp_path, 2)
    assert sorted(key for session in sessions for key in session.asked) == sorted(set(ASKED) - known)
