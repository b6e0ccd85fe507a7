"""Sessions without a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow.parquet as parquet
import torch

from meteor_bench.core.request import Answer, Request
from meteor_bench.data.shipped import tasks_dir
from meteor_bench.data.suites import suite_tasks

TOKENS = {
    "towers": {"a": 256, "b": 256, "c": 256},
    "fused": 256,
    "llm_input": 256,
    "final": 61,
    "layer_mean": 100.5,
    "kv_mean": 100.5,
    "text": 9,
    "answer": 3,
    "reference": 256,
    "target": 61,
}


class FakeSession:
    """Answers with ``say(request)``, last question first; remembers what it was asked and which pictures it saw."""

    def __init__(self, say: Callable[[Request], str], delay_s: float = 0.0) -> None:
        self.say, self.delay_s = say, delay_s
        self.asked: list[str] = []
        self.calls: list[list[str]] = []
        self.pictures: dict[str, Sequence[Any]] = {}
        self.provenance = {"model": "fake"}
        self.device = torch.device("cpu")
        self.frames = 4

    def look(self, request: Request) -> Sequence[Any]:
        return request.media()

    def answer(
        self,
        requests: Sequence[Request],
        on_answer: Callable[[Request, Answer], None],
        batch_size: int = 32,
        reuse: bool = True,
    ) -> None:
        self.calls.append([request.key for request in requests])
        for request in reversed(requests):
            time.sleep(self.delay_s)
            if request.media_key not in self.pictures:
                self.pictures[request.media_key] = request.media()
            self.asked.append(request.key)
            on_answer(request, Answer(self.say(request), TOKENS, {"total": 1.25}, {"llm": 7}, ("a note",)))


def documents(task: str) -> list[dict[str, Any]]:
    """A benchmark's documents, without their pictures, in order."""
    columns = ["index", "family", "question", "answer", "chain", "options", "media_key", "frames"]
    (file,) = (tasks_dir() / task / "data").glob("*.parquet")
    rows: list[dict[str, Any]] = parquet.read_table(file, columns=columns).to_pylist()
    return rows


def truths() -> Mapping[str, str]:
    """Request key -> what a perfect model says, chain included."""
    return {
        f"{task}/{doc['index']}": f"{doc['chain']} {doc['answer']}".strip()
        for task in suite_tasks("pocket")
        for doc in documents(task)
    }


def oracle(delay_s: float = 0.0) -> FakeSession:
    """Knows everything."""
    known = truths()
    return FakeSession(lambda request: known[request.key], delay_s)


def constant(text: str) -> FakeSession:
    """Always says the same."""
    return FakeSession(lambda request: text)
