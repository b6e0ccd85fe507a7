"""Fetching and checking from the fake hub, and a connection that breaks."""

from __future__ import annotations

from pathlib import Path

from meteor_bench.data import suites
from meteor_bench.data.check import check
from meteor_bench.data.fetch import fetch
from meteor_bench.data.hub import Hub
from tests.fake_hub import FakeHub


def bring(hub: FakeHub, root: Path, *tasks: str) -> list[str]:
    return fetch([suites.benchmark(task) for task in tasks], root, Hub(hub.endpoint))


def problems(root: Path, *tasks: str) -> list[str]:
    rows = [suites.benchmark(task) for task in tasks] or None
    return [line for row in check(root, rows) for line in row["problems"]]


class Breaking(dict[str, int]):
    """The connection breaks after so many bytes, then at once, for ever."""

    def __init__(self, name: str, first: int) -> None:
        super().__init__()
        self._name, self._next = name, first

    def pop(self, name: str, default: int | None = None) -> int | None:  # type: ignore[override]
        if name != self._name:
            return default
        length, self._next = self._next, 0
        return length
