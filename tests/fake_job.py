"""Jobs without models: what stands for `ModelCache.blueprint`, lmms-eval and the clock; answers are synthetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meteor_bench.config.run_config import RunConfig
from meteor_bench.lmms import evaluate as evaluate_module
from meteor_bench.lmms import harness
from meteor_bench.lmms.evaluate import TaskResult
from meteor_bench.records.schema import LatencySample
from meteor_bench.runs import job as run_module
from meteor_bench.runs.job import Job
from meteor_bench.runs.model_cache import ModelCache
from tests import synthetic


def blueprint(shared: ModelCache, config: RunConfig) -> Any:
    """What `ModelCache.blueprint` gives, as far as a job looks at it."""
    provenance = {
        "model": config.model,
        "variant": config.model,
        "checkpoint": "w" * 64,
        "method": config.method,
        "parameters": dict(config.parameters),
        "positions": "keep",
        "ratio": config.ratio,
        "exact": True,
        "device": "cpu",
        "dtype": "float32" if config.dtype == "auto" else config.dtype,
        "seed": config.seed,
    }
    cpu = torch.device("cpu")
    session = SimpleNamespace(
        provenance={**provenance, "facts": {}}, device=cpu, engine=SimpleNamespace(facts={}), config=config
    )
    return SimpleNamespace(
        provenance=provenance,
        modules=("meteor_bench.models.pocket.model",),
        vlm=SimpleNamespace(device=cpu),
        pruner=SimpleNamespace(exact=True, needs_calibration=False),
        session=lambda calibration: session,
    )


class Engine:
    """Stands for lmms-eval and the models; answers are synthetic.

    Attributes:
        asked: methods in the order in which they were evaluated.
        before: called with the method before it answers.
        change: applied to each sample.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda method: None
        self.change: Callable[[dict[str, Any]], None] = lambda sample: None

    def evaluate(self, fake: Any, tasks: Sequence[str], *, journal: Path, limit: int, **rest: Any) -> list[TaskResult]:
        self.asked.append(fake.config.method)
        self.before(fake.config.method)
        sleep(0.002)  # every run takes time that a record can say; estimates are made of it
        journal.write_text("answers", encoding="utf-8")
        rows = [vars(s) for s in synthetic.samples(fake.config, n=limit)]
        for row in rows:
            self.change(row)
        results = []
        for task in tasks:
            own = [row for row in rows if row["task"] == task]
            score = 100 * sum(row["score"] for row in own) / limit
            results.append(TaskResult(task, {"m": score}, score, {}, "m", limit, limit, "d" * 64, own))
        return results

    def time(self, job: Job) -> list[LatencySample]:
        both = synthetic.times("unpruned", 1.0, n=3) if job.unpruned else []
        return [*both, *synthetic.times("run", 0.5, n=3)]


def install(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Put the engine in its place for the length of a test."""
    fake = Engine()
    monkeypatch.setattr(ModelCache, "blueprint", blueprint)
    monkeypatch.setattr(run_module, "_time", fake.time)
    monkeypatch.setattr(harness, "load_evaluator", lambda: None)
    monkeypatch.setattr(evaluate_module, "evaluate", fake.evaluate)
    return fake
