"""A made-up world of methods and ratios whose losses are known, answered by the fake backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.schema import LatencySample, SampleRecord
from meteor_bench.runs.fake_backend import FakeBackend
from tests import synthetic

METHODS = ("fastv", "divprune", "random", "uniform")
RATIOS = (0.25, 0.5, 0.76, 0.889)
# Share of the answers that a method gets wrong at a ratio of 1; it grows with the cube of the ratio.
WORST = {"none": 0.0, "fastv": 0.12, "divprune": 0.3, "random": 0.9, "uniform": 0.6}


class World(FakeBackend):
    """Questions, four to a picture; a candidate is wrong on a share of them that is its own.

    Attributes:
        answered: (method, ratio, questions per benchmark), in their order.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(self._made, self._timed)
        self._seed = seed
        self.answered: list[tuple[str, float, int]] = []

    def _made(self, config: RunConfig, limit: int | None) -> list[SampleRecord]:
        assert limit is not None
        self.answered.append((config.method, config.ratio, limit))
        share = WORST[config.method] * config.ratio**3
        made = []
        for at, sample in enumerate(synthetic.samples(config, n=limit)):
            task = at // limit
            # The same question is as hard in every round, and harder for all at once.
            rng = np.random.default_rng([self._seed, task, sample.doc_id, len(config.method)])
            hard = np.random.default_rng([self._seed, task, sample.doc_id]).random()
            right = float(0.7 * hard + 0.3 * rng.random() >= share) if share else 1.0
            row: dict[str, Any] = {**vars(sample), "score": right}
            kept = 1 - config.ratio
            row["flops"] = {"encode.a": 10**9, "prefill": round(kept * 4e9), "decode": 10**7}
            made.append(SampleRecord(**row))
        return made

    def _timed(self, names: Sequence[str]) -> list[LatencySample]:
        return [one for name in names for one in synthetic.times(name, 1.0 if name == "unpruned" else 0.5, n=8)]
