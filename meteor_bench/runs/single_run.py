"""One of the runs of a job: a model under a method with its settings, its answers through lmms-eval, its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.data import suites
from meteor_bench.data.calibration import calibration_digest, calibration_requests
from meteor_bench.data.lookalike import counted, rows
from meteor_bench.data.own_pictures import AGREEMENT
from meteor_bench.records.code_digest import code_digest, source_digest
from meteor_bench.records.provenance import (
    PACKAGE,
    Environment,
    environment,
    fingerprint,
    hash_files,
    package_version,
)
from meteor_bench.records.run_folder import RunFolder
from meteor_bench.records.schema import LOOKALIKE, SCHEMA, LatencySample, RunRecord, SampleRecord, TaskRecord
from meteor_bench.runs.agreement import Answers, agreed
from meteor_bench.runs.backend import Backend
from meteor_bench.runs.device import device_name
from meteor_bench.utils.peak_memory import Peak
from meteor_bench.utils.progress import detail, track

if TYPE_CHECKING:
    from meteor_bench.engine.factory import Blueprint
    from meteor_bench.engine.session import Session
    from meteor_bench.lmms.evaluate import TaskResult

__all__ = ["Share", "SingleRun"]


# (run, its folder, called with the number of answers that are known).
Share = Callable[["SingleRun", Path, Callable[[int], None]], None]


@dataclass
class SingleRun:
    """A run of a job, which has one or two: the unpruned model's and the method's.

    Attributes:
        config: its settings.
        blueprint: the model with the method.
        baseline: fingerprint of the unpruned run that it is compared with.
        backend: what answers.
        fingerprint: hash of everything that can change an answer.
        seconds: wall time of what has been done.
    """

    config: RunConfig
    blueprint: Blueprint
    baseline: str | None = None
    backend: Backend = field(default_factory=Backend)
    fingerprint: str = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    _scored: RunRecord = field(init=False)
    _code: str = field(init=False)

    def __post_init__(self) -> None:
        self._code = code_digest(self.config.method, self.blueprint.modules)
        self.fingerprint = fingerprint(self._identity())

    @cached_property
    def session(self) -> Session:
        """The model with the method, ready to answer; the method's constants are measured now.

        Raises:
            MeteorBenchError: method, model and ratio do not fit.
        """
        return self.blueprint.session(calibration_requests, measured=True)

    def get_ready(self) -> None:
        """Measure the method's constants, so that a target out of reach is known before anything is answered.

        Raises:
            MeteorBenchError: method, model and ratio do not fit.
        """
        started = perf_counter()
        if self.session.engine.facts:
            self.seconds["calibration"] = perf_counter() - started

    @property
    def title(self) -> str:
        """For progress lines."""
        return "unpruned" if self.config.method == "none" else f"{self.config.method_name} at ratio {self.config.share}"

    @property
    def benchmarks(self) -> tuple[suites.Benchmark, ...]:
        """What is asked."""
        root = self.config.data_root
        return tuple(counted(row, root) for row in suites.resolve(self.config.suite, self.config.tasks))

    @property
    def questions(self) -> int:
        """How many are asked, under the limit."""
        return sum(min(row.n, self.config.limit or row.n) for row in self.benchmarks)

    def answer(
        self, folder: RunFolder, share: Share | None = None, unpruned: Callable[[], Answers] | None = None
    ) -> list[SampleRecord]:
        """All questions through lmms-eval, those excepted that the folder's journal holds.

        Args:
            share: has other processes answer their shares first, with this one.
            unpruned: gives the unpruned model's answers, with which these may be compared; None where they are its own.

        Raises:
            MeteorBenchError: data or method do not work.
        """
        from meteor_bench.records.summary import mean_flops, summarise_tokens

        peak = Peak(self.session.device)
        folder.write(self._record(folder))
        if folder.resumed:
            detail(f"{self.title}: goes on in {folder.path}")
        known = self._known(folder)
        started = perf_counter()
        with track(self.title, self.questions, sum(known.values()), "questions") as update:

            def on_progress(task: str, done: int, wanted: int) -> None:
                known[task] = done
                if share is None:
                    update(sum(known.values()))

            if share is not None:
                share(self, folder.path, update)
            results = self.backend.evaluate(
                self.session,
                [row.task for row in self.benchmarks],
                config=self.config,
                journal=folder.journal,
                fingerprint=self.fingerprint,
                on_progress=on_progress,
            )
        self.seconds["answers"] = perf_counter() - started
        if any(row.metric == AGREEMENT for row in self.benchmarks):
            results = [agreed(result, unpruned() if unpruned is not None else None) for result in results]
        samples = [SampleRecord(**{**s, "notes": tuple(s["notes"])}) for result in results for s in result.samples]
        answered = [sample for sample in samples if not sample.failed]
        folder.write_samples(samples)
        self._scored = replace(
            self._record(folder),
            tasks=tuple(
                _task(row, result, self.config.data_root) for row, result in zip(self.benchmarks, results, strict=True)
            ),
            tokens=summarise_tokens(answered, self.config.ratio),
            flops=mean_flops(answered),
            peak_memory=peak.bytes(),
        )
        return samples

    def _known(self, folder: RunFolder) -> dict[str, int]:
        """Answers that an interrupted run left, by benchmark; each says its own again when its turn comes."""
        if not folder.resumed:
            return {}
        from meteor_bench.lmms.journal import Journal

        with Journal(folder.journal, self.fingerprint) as journal:
            counts = journal.counts()
        return {row.task: counts[row.task] for row in self.benchmarks}

    def finish(self, folder: RunFolder, timings: Sequence[LatencySample] = ()) -> None:
        """Write the timings, then the record that declares the run complete. May be called again.

        Args:
            timings: none as long as the run has not been timed.
        """
        folder.write_latency(timings)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        seconds = {name: round(value, 3) for name, value in self.seconds.items()}
        folder.write(replace(self._scored, status="complete", finished=finished, seconds=seconds))

    @cached_property
    def environment(self) -> Environment:
        """What runs it."""
        import torch

        from meteor_bench.core.attention_probe import KERNEL

        dtype = self.blueprint.provenance["dtype"]
        return environment(device_name(self.blueprint.vlm.device), KERNEL, dtype, torch.get_num_threads(), self._code)

    def _record(self, folder: RunFolder) -> RunRecord:
        """What is known of a run before it has answered anything."""
        about = self.session.provenance
        return RunRecord(
            schema=SCHEMA,
            status="partial",
            started=folder.started,
            fingerprint=self.fingerprint,
            baseline=self.baseline,
            config=self.config,
            model=about["variant"],
            checkpoint=about["checkpoint"],
            parameters=about["parameters"],
            positions=about["positions"],
            exact=about["exact"],
            method_files=about.get("method_files", {}),
            facts=about["facts"],
            environment=self.environment,
        )

    def _identity(self) -> dict[str, Any]:
        """Everything that can change an answer.

        In float32 batch size and threads are left out: a batch equals its rows run alone, so a run may go on with a
        smaller one. Below float32 answers may flip with the shape of a batch, and how questions are batched is part of
        what a run is.
        """
        about = self.blueprint.provenance
        calibrated = self.blueprint.pruner.needs_calibration
        return {
            **{name: value for name, value in about.items() if name != "device"},
            "schema": SCHEMA,
            "device": device_name(self.blueprint.vlm.device),
            "code": self._code,
            "versions": {name: package_version(name) for name in ("torch", "transformers", "lmms-eval")},
            "calibration": [calibration_digest(), source_digest(PACKAGE / "data" / "calibration.py")]
            if calibrated
            else None,
            "limit": self.config.limit,
            "tasks": {row.task: _data(row, self.config.data_root) for row in self.benchmarks},
            **self._batching(about["dtype"]),
            **({"frames": self.config.frames} if self.config.frames else {}),
        }

    def _batching(self, dtype: str) -> dict[str, Any]:
        """How questions are batched, where that can change an answer."""
        if dtype == "float32":
            return {}
        config = self.config
        return {"batching": "alone" if config.deterministic else [config.batch_size, config.reuse]}


def _task(row: suites.Benchmark, result: TaskResult, root: Path | None) -> TaskRecord:
    mark = LOOKALIKE if row.stock and rows(root) is not None else ""
    return TaskRecord(
        task=result.task,
        group=row.group,
        metric=row.metric,
        score=result.headline,
        metrics=result.metrics,
        sample_metric=result.sample_metric,
        families=result.families,
        n=result.n,
        n_expected=result.n_expected,
        data=mark + result.data_digest,
    )


def _data(row: suites.Benchmark, root: Path | None) -> str:
    """What a benchmark asks; of lmms-eval's own, whose version is said elsewhere, the data alone.

    Those that ``--online`` fetches are not known beforehand; the journal tells their pictures and questions apart.
    """
    if not row.stock:
        return _task_digest(row.tasks, row.task)
    from meteor_bench.data import root as roots

    return "online" if root is None else roots.digest(row, root)


@cache
def _task_digest(root: Path, task: str) -> str:
    """Hash of a benchmark's folder (questions, pictures, metric) and of what all in the same table share."""
    folders = [root / task, *sorted(root.glob("_*"))]
    files = (f for folder in folders for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return hash_files(files, root)
