"""What a sweep will take: time and memory of each cell on this device, from finished records or a short probe.

A cell costs what a finished run of its method (else of the unpruned model) on this device, model and dtype took for a
question, times its questions. Where there is no such run, the unpruned model answers a few questions of each benchmark
first: the probe. Its memory is that of small batches, a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.core.registry import MODELS
from meteor_bench.data.calibration import calibration_items
from meteor_bench.records.reader import read_run
from meteor_bench.records.run_folder import find_runs
from meteor_bench.records.schema import RunRecord
from meteor_bench.runs.job import Job, execute, prepare
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.sweep.grid import cells

__all__ = ["FINISHED", "TO_DO", "Planned", "plan", "plan_runs"]

PROBE = 8  # questions of each benchmark
TO_DO, FINISHED = "to do", "finished"


@dataclass(frozen=True)
class Planned:
    """A cell with what it will take.

    Attributes:
        run: its settings.
        state: `TO_DO`, `FINISHED`, or why it cannot be done.
        seconds: wall time, 0 for a cell that is not to be done.
        memory: bytes; None where nothing is known.
        source: what the estimate is made of.
    """

    run: RunConfig
    state: str
    seconds: float = 0.0
    memory: int | None = None
    source: str = ""

    @property
    def impossible(self) -> bool:
        """Whether `state` is a reason."""
        return self.state not in (TO_DO, FINISHED)


def plan(config: SweepConfig) -> list[Planned]:
    """All cells of a sweep in their order; arguments and errors as for `plan_runs`."""
    return plan_runs(cells(config), config.out, timed=config.latency)


def plan_runs(runs: Sequence[RunConfig], out: Path, *, timed: bool) -> list[Planned]:
    """What runs will take; loads the models, and probes them where no record tells.

    Args:
        out: folder of runs whose records tell.
        timed: whether latency is measured too.

    Raises:
        MeteorBenchError: a wrong setting.
        KeyboardInterrupt: passed on.
    """
    estimator = _Estimator(_records(out), timed=timed)
    shared = ModelCache()
    planned = []
    for run in runs:
        try:
            job = prepare(run, shared)
            _check(job)
            finished = job.finished(timed=timed)
            planned.append(Planned(run, FINISHED) if finished else estimator.planned(job))
        except MeteorBenchError as error:
            planned.append(Planned(run, " ".join(str(error).split())))
    return planned


def _records(out: Path) -> list[RunRecord]:
    """Complete runs of a results folder; those that cannot be read tell nothing."""
    try:
        folders = find_runs(out)
    except MeteorBenchError:
        return []
    found = []
    for folder in folders:
        try:
            found.append(read_run(folder))
        except MeteorBenchError:
            continue
    return [record for record in found if record.status == "complete"]


def _check(job: Job) -> None:
    """Whether the method fits model and ratio, as far as that can be told without calibration."""
    from meteor_bench.engine.engine import Engine

    blueprint = job.main.blueprint
    Engine(blueprint.vlm, blueprint.pruner, blueprint.budget, positions=blueprint.positions)


class _Estimator:
    """Estimates from records, and from probes that are made when they are first needed."""

    def __init__(self, known: Sequence[RunRecord], *, timed: bool) -> None:
        self._known, self._timed = known, timed
        self._probes: dict[str, RunRecord] = {}

    def planned(self, job: Job) -> Planned:
        """A cell that is to be done."""
        run = job.main.config
        alike = [record for record in self._known if _alike(job, record)]
        own = [record for record in alike if record.config.method == run.method]
        unpruned = [record for record in alike if record.config.method == "none"]
        if own:
            record = min(
                own, key=lambda r: (r.config.match != run.match, abs(r.config.ratio - run.ratio), -_questions(r))
            )
            source = f"record at {record.config.share}" if run.method != "none" else "record"
        elif unpruned:
            record, source = max(unpruned, key=_questions), "record, unpruned"
        else:
            record, source = self._probed(job), "probe, unpruned"
        return Planned(run, TO_DO, self._seconds(job, record), record.peak_memory, source)

    def _probed(self, job: Job) -> RunRecord:
        """The unpruned model, in the variant that the method takes, on a few questions."""
        run, variant = job.main.config, job.main.blueprint.provenance["variant"]
        model = variant if variant in MODELS.names() else run.model
        if model not in self._probes:
            with TemporaryDirectory() as folder:
                small = replace(run.unpruned(), model=model, limit=PROBE, out=Path(folder))
                warm = replace(small, limit=1)  # the first run pays for what is loaded on the way
                execute(warm, prepare(warm, job.shared), timed=False, tables=False)
                done = execute(small, prepare(small, job.shared), timed=self._timed, tables=False)
                self._probes[model] = read_run(done.path)
        return self._probes[model]

    def _seconds(self, job: Job, record: RunRecord) -> float:
        each = record.seconds["answers"] / max(1, _questions(record))
        total = each * job.main.questions + (record.seconds.get("latency", 0.0) if self._timed else 0.0)
        pruner = job.main.blueprint.pruner
        if pruner.needs_calibration:
            # At least a pass over the calibration questions for each stage.
            passes = each * len(pruner.calibration) * len(calibration_items())
            total += record.seconds.get("calibration", passes)
        return total


def _alike(job: Job, record: RunRecord) -> bool:
    """The same model, on the same machine in the same way, with no fewer questions than a probe."""
    here, there = job.main.environment, record.environment
    enough = "answers" in record.seconds and _questions(record) >= PROBE * len(record.tasks)
    same = all(getattr(here, name) == getattr(there, name) for name in ("device", "processor", "threads", "dtype"))
    return same and record.model == job.main.blueprint.provenance["variant"] and enough


def _questions(record: RunRecord) -> int:
    return sum(task.n for task in record.tasks)
