"""Jobs without models: the shipped fake backend over synthetic samples, in place of every job's own backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import sleep
from typing import Any

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.schema import LatencySample, SampleRecord
from meteor_bench.runs import model_cache
from meteor_bench.runs.fake_backend import FakeBackend
from tests import synthetic


class Engine(FakeBackend):
    """Synthetic answers.

    Attributes:
        change: applied to each sample's fields.
    """

    def __init__(self) -> None:
        super().__init__(self._made, self._timed)
        self.change: Callable[[dict[str, Any]], None] = lambda sample: None

    def _made(self, config: RunConfig, limit: int | None) -> list[SampleRecord]:
        sleep(0.002)  # every run takes time that a record can say; estimates are made of it
        rows = [dict(vars(sample)) for sample in synthetic.samples(config, **({} if limit is None else {"n": limit}))]
        for row in rows:
            self.change(row)
        return [SampleRecord(**row) for row in rows]

    def _timed(self, names: Sequence[str]) -> list[LatencySample]:
        return [one for name in names for one in synthetic.times(name, 1.0 if name == "unpruned" else 0.5, n=3)]


def install(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Let every job of a test have this backend."""
    fake = Engine()
    monkeypatch.setattr(model_cache, "default", lambda: fake)
    return fake
