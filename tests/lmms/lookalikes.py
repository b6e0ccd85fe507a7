"""A data root of look-alikes for tests, and the benchmark table with their numbers of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.core.request import Request
from meteor_bench.data import suites
from meteor_bench.lmms.evaluate import TaskResult, evaluate
from meteor_bench.lmms.inputs import Inputs
from scripts.make_lookalikes import Lookalike
from tests.lmms.fakes import FakeSession

STOCK = [row.task for row in suites.benchmarks().values() if row.stock]


def count_as(monkeypatch: pytest.MonkeyPatch, counts: Mapping[str, int]) -> None:
    """Let the benchmark table expect these numbers of documents."""
    tables = suites._tables()
    rows = {name: replace(row, n=counts.get(name, row.n)) for name, row in tables.benchmarks.items()}
    monkeypatch.setattr(suites, "_tables", lambda: replace(tables, benchmarks=rows))


def saying(answers: Sequence[str]) -> FakeSession:
    """Gives the answers by document."""

    def say(request: Request) -> str:
        return answers[int(request.key.split("/")[1])]

    return FakeSession(say)


def score(session: FakeSession, task: str, root: Path, folder: Path, **options: Any) -> TaskResult:
    """One benchmark on the data of a root."""
    inputs = Inputs(root, frames=4, **options)
    journal = folder / "answers.jsonl"
    (result,) = evaluate(session, [task], journal=journal, batch_size=8, inputs=inputs)  # type: ignore[arg-type]
    return result


def counts(made: Mapping[str, Lookalike]) -> dict[str, int]:
    """Documents of each."""
    return {task: len(one.right) for task, one in made.items()}
