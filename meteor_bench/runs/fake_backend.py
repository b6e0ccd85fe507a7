"""A backend without models, lmms-eval or a clock: for tests of what is built on jobs, here and elsewhere.

    execute(config, backend=FakeBackend(samples))

What its records hold was made up by whoever gave the samples; their checkpoint is "fake".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.schema import LatencySample, SampleRecord
from meteor_bench.runs.backend import Backend

if TYPE_CHECKING:
    from meteor_bench.core.request import Request
    from meteor_bench.engine.factory import Blueprint
    from meteor_bench.engine.load_model import Loader
    from meteor_bench.engine.session import Session
    from meteor_bench.lmms.evaluate import TaskResult
    from meteor_bench.lmms.inputs import Inputs

__all__ = ["FakeBackend"]

CHECKPOINT = "fake"


class FakeBackend(Backend):
    """Answers that are given instead of computed.

    Args:
        samples: (config, questions per benchmark) -> what a run of that config has answered, all benchmarks.
        times: (names of the sessions) -> their timings; none by default.

    Attributes:
        asked: methods in the order in which they were evaluated.
        before: called with the method before it answers, say to raise what a test wants raised.
    """

    def __init__(
        self,
        samples: Callable[[RunConfig, int | None], Sequence[SampleRecord]],
        times: Callable[[Sequence[str]], list[LatencySample]] = lambda names: [],
    ) -> None:
        self._samples, self._times = samples, times
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda method: None

    def load(self) -> None:
        """There is nothing to load."""

    def blueprint(self, config: RunConfig, load: Loader) -> Blueprint:
        """As much of a blueprint as a job looks at."""
        import torch

        cpu = torch.device("cpu")
        provenance = {
            "model": config.model,
            "variant": config.model,
            "checkpoint": CHECKPOINT,
            "method": config.method,
            "parameters": dict(config.parameters),
            "positions": "keep",
            "ratio": config.ratio,
            "match": config.match,
            "exact": True,
            "device": "cpu",
            "dtype": "float32" if config.dtype == "auto" else config.dtype,
            "seed": config.seed,
        }
        session = SimpleNamespace(
            provenance={**provenance, "facts": {}},
            device=cpu,
            engine=SimpleNamespace(facts={}),
            config=config,
            frames=1,
        )
        made = SimpleNamespace(
            provenance=provenance,
            modules=("meteor_bench.models.pocket.model",),
            vlm=SimpleNamespace(device=cpu),
            pruner=SimpleNamespace(exact=True, needs_calibration=False),
            session=lambda calibration, measured: session,
        )
        return cast("Blueprint", made)

    def evaluate(
        self,
        session: Session,
        tasks: Sequence[str],
        *,
        config: RunConfig,
        journal: Path,
        fingerprint: str,
        on_progress: Callable[[str, int, int], None],
    ) -> list[TaskResult]:
        """The samples, and their mean as the score of each benchmark."""
        from meteor_bench.lmms.evaluate import TaskResult

        self.asked.append(config.method)
        self.before(config.method)
        journal.write_text("answers", encoding="utf-8")
        rows: list[dict[str, Any]] = [asdict(sample) for sample in self._samples(config, config.limit)]
        results = []
        for task in tasks:
            own = [row for row in rows if row["task"] == task]
            score = 100 * sum(row["score"] for row in own) / max(len(own), 1)
            results.append(TaskResult(task, {"m": score}, score, {}, "m", len(own), len(own), "d" * 64, own))
        return results

    def requests(self, session: Session, tasks: tuple[str, ...], count: int, inputs: Inputs) -> list[Request]:
        """None are needed."""
        return []

    def time(self, sessions: Mapping[str, Session], requests: Sequence[Request]) -> list[LatencySample]:
        """The given timings."""
        return self._times(list(sessions))
