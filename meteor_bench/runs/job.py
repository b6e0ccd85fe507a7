"""One job: the unpruned model unless its record exists, the method, the timing of both, the records.

prepare (sessions, fingerprints) ▸ answers, journalled ▸ latency, interleaved ▸ records, tables
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.interrupts import contained
from meteor_bench.data import suites
from meteor_bench.data.lookalike import counted
from meteor_bench.data.made import check_made
from meteor_bench.records.reader import read_latency, read_samples
from meteor_bench.records.run_folder import RunFolder, find_complete
from meteor_bench.records.schema import LatencySample, SampleRecord
from meteor_bench.runs.agreement import Answers, answers_of
from meteor_bench.runs.agreement import check as check_agreement
from meteor_bench.runs.backend import Backend
from meteor_bench.runs.device import device_and_dtype
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.single_run import SingleRun
from meteor_bench.utils.atomic_io import check_writable
from meteor_bench.utils.environment import quiet_libraries
from meteor_bench.utils.progress import detail

if TYPE_CHECKING:
    from meteor_bench.runs.distributed.process_group import Ranks

__all__ = ["LATENCY_REQUESTS", "Job", "Outcome", "execute", "help_out", "plan", "prepare"]

LATENCY_REQUESTS = 24


@dataclass(frozen=True)
class Outcome:
    """What a job came to.

    Attributes:
        path: the run's folder.
        missed: samples on which a method that promises its budget missed it.
        example: one of them, for the message.
        failed: samples that were not answered: pictures that cannot be read or taken, logits that are not finite.
        failure: what is said of one of them.
    """

    path: Path
    missed: int = 0
    example: str = ""
    failed: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Job:
    """The method's run and, where one is wanted, the unpruned run it is compared with; not yet run."""

    main: SingleRun
    unpruned: SingleRun | None
    shared: ModelCache

    def finished(self, *, timed: bool = True) -> Path | None:
        """The folder of an identical run that is complete and, where that is wanted, timed."""
        path = find_complete(self.main.config.out, self.main.fingerprint)
        return path if path and (not timed or read_latency(path)) else None

    def whole(self, *, timed: bool = True) -> Path | None:
        """The same, where the run that it is compared with is complete too."""
        other = self.unpruned
        if other is not None and find_complete(other.config.out, other.fingerprint) is None:
            return None
        return self.finished(timed=timed)


def plan(config: RunConfig) -> list[str]:
    """What `execute` would do, a line each; checks names, parameters and device, builds no model.

    Raises:
        MeteorBenchError: the run cannot work.
    """
    quiet_libraries()
    from meteor_bench.engine.load_model import resolve_model
    from meteor_bench.engine.make_method import make_pruner
    from meteor_bench.lmms.tasks import check_hub_data

    check_made(suites.resolve(config.suite, config.tasks))
    check_hub_data(config)

    pruner = make_pruner(config.method, config.parameters, config.stages)
    card = resolve_model(config.model, pruner, config.source)
    device, dtype = device_and_dtype(config)
    shown = ", ".join(f"{k}={v}" for k, v in pruner.parameters().items()) or "no parameters"
    runs = [f"{config.method_name} on {card.name} at ratio {config.share} ({shown})"]
    if config.method != "none" and config.baseline:
        runs.insert(0, f"unpruned on {config.model}, unless {config.out} holds its record")
    rows = [counted(row, config.data_root) for row in suites.resolve(config.suite, config.tasks)]
    asked = {row: min(row.n, config.limit or row.n) for row in rows}
    return [
        *(f"run        {run}" for run in runs),
        *(f"benchmark  {row.task}: {n} questions, {row.metric}" for row, n in asked.items()),
        f"latency    {min(LATENCY_REQUESTS, sum(asked.values()))} requests, batch 1",
        f"device     {device}, {dtype}, batch {config.batch_size}, seed {config.seed}",
        f"out        {config.out}",
    ]


@contained("the code of a method or model")
def prepare(config: RunConfig, shared: ModelCache | None = None) -> Job:
    """Load the models of a job.

    Args:
        shared: what jobs before this one have loaded.

    Raises:
        MeteorBenchError: the folder cannot be written, a checkpoint is broken, or a name is unknown.
    """
    quiet_libraries()
    check_writable(config.out)
    from meteor_bench.lmms.tasks import check_hub_data

    check_made(suites.resolve(config.suite, config.tasks))
    check_hub_data(config)
    check_agreement(config)
    shared = shared or ModelCache()
    unpruned = None
    if config.method != "none" and config.baseline:
        plainly = config.unpruned()
        unpruned = SingleRun(plainly, shared.blueprint(plainly), backend=shared.backend)
    baseline = unpruned.fingerprint if unpruned else None
    main = SingleRun(config, shared.blueprint(config), baseline, backend=shared.backend)
    return Job(main, unpruned, shared)


@contained("the code of a method, model or benchmark")
def execute(
    config: RunConfig,
    job: Job | None = None,
    *,
    timed: bool = True,
    tables: bool = True,
    ranks: Ranks | None = None,
    backend: Backend | None = None,
) -> Outcome:
    """Do a job and write its folders.

    Args:
        job: its models, where they have been loaded already.
        timed: also measure latency.
        tables: also write the report files of its folders.
        ranks: the processes that answer with this one, the first of them; see `help_out` for the others.
        backend: what builds models, answers and times, where no job is given; None for the real one.

    Raises:
        MeteorBenchError: something the user can put right.
        KeyboardInterrupt: passed on; what was answered is kept and the same config goes on from there.
    """
    started = perf_counter()
    detail("loading libraries and weights")
    job = job or prepare(config, ModelCache(local=ranks.local if ranks else None, backend=backend))
    main, unpruned = job.main, job.unpruned
    if path := job.whole(timed=timed):
        return _kept(job, path, tables=tables, ranks=ranks)
    # Before any progress bar. (In a thread beside the building of the model it takes longer: both hold Python's lock.)
    from meteor_bench.runs.distributed.journals import collect
    from meteor_bench.runs.distributed.worker import answer_with_all

    job.shared.backend.load()
    main.seconds["load"] = perf_counter() - started
    main.get_ready()
    with ExitStack() as stack:
        new: list[tuple[SingleRun, RunFolder]] = []
        left_over = _unpruned_there(job, ranks)
        for part in (main,) if unpruned is None or left_over is not None else (unpruned, main):
            folder = stack.enter_context(RunFolder.open(part.config, part.fingerprint))
            collect(folder.path)
            before = _unpruned_answers(left_over, new) if part is main and unpruned is not None else None
            samples = part.answer(folder, partial(answer_with_all, ranks) if ranks is not None else None, before)
            if part is unpruned:
                part.finish(folder)  # of use to others, whatever becomes of the method
            new.append((part, folder))
        timings = _time(job) if timed else []
        for part, folder in new:
            part.finish(folder, timings if part is main else _alone(timings))
            if tables:
                _write_tables(folder)
        if left_over is not None:
            _complete(left_over, timings, tables=tables)
    return _outcome(main, folder.path, samples)


def _unpruned_there(job: Job, ranks: Ranks | None) -> Path | None:
    """The folder of the unpruned run where it is complete already; nobody answers it again."""
    from meteor_bench.runs.distributed.worker import leave_out

    if job.unpruned is None:
        return None
    found = find_complete(job.unpruned.config.out, job.unpruned.fingerprint)
    if found is not None:
        detail(f"unpruned: taken from {found}")
        if ranks is not None:
            leave_out(job.unpruned, ranks)
    return found


def _unpruned_answers(found: Path | None, new: Sequence[tuple[SingleRun, RunFolder]]) -> Callable[[], Answers]:
    """Reads what the unpruned model answered, now or in an earlier run."""
    return lambda: answers_of(read_samples(found or new[0][1].path))


def _kept(job: Job, path: Path, *, tables: bool, ranks: Ranks | None) -> Outcome:
    """An identical run that is whole, perhaps but for its tables: nothing is answered again."""
    from meteor_bench.runs.distributed.worker import leave_out

    detail(f"found finished: {path}")
    if ranks is not None:
        for part in filter(None, (job.unpruned, job.main)):
            leave_out(part, ranks)
    _complete(path, (), tables=tables)
    return _outcome(job.main, path, read_samples(path))


def _complete(path: Path, timings: Sequence[LatencySample], *, tables: bool) -> None:
    """What a run that was killed between its answers and its end lacks; nothing while another process holds it."""
    from meteor_bench.report.document import FILES

    folder = RunFolder.held(path)
    if folder is None:
        return
    with folder:
        if timings and not read_latency(path):
            folder.write_latency(_alone(timings))
        if tables and not all((path / f"report.{suffix}").is_file() for suffix in FILES):
            _write_tables(folder)


def _write_tables(folder: RunFolder) -> None:
    from meteor_bench.report.document import FILES
    from meteor_bench.report.render import document
    from meteor_bench.report.runs import load

    made = document(load(folder.path))
    for suffix, form in FILES.items():
        folder.write_text(f"report.{suffix}", made.render(form))


def help_out(config: RunConfig, ranks: Ranks) -> None:
    """What the processes after the first do: answer their share of each run that the first one opens a folder for.

    Raises:
        RankError: another process has failed, or runs something else than this one.
        MeteorBenchError: data or method do not work.
    """
    job = prepare(config, ModelCache(local=ranks.local))
    from meteor_bench.runs.distributed.worker import answer_opened

    job.shared.backend.load()
    job.main.get_ready()
    for run in (job.unpruned, job.main):
        if run is not None:
            answer_opened(run, ranks)


def _time(job: Job) -> list[LatencySample]:
    """The method's session, and the unpruned one beside it."""
    from meteor_bench.lmms.inputs import Inputs

    main, unpruned = job.main, job.unpruned
    sessions = {"run": main.session} if unpruned is None else {"unpruned": unpruned.session, "run": main.session}
    started = perf_counter()
    tasks = tuple(row.task for row in main.benchmarks)
    count = min(LATENCY_REQUESTS, main.questions)
    requests = job.shared.requests(main.session, tasks, count, Inputs.of(main.config))
    found = job.shared.backend.time(sessions, requests)
    main.seconds["latency"] = perf_counter() - started
    return found


def _alone(timings: Sequence[LatencySample]) -> list[LatencySample]:
    """The unpruned model's timings, as its own folder holds them."""
    return [replace(sample, session="run") for sample in timings if sample.session == "unpruned"]


def _outcome(part: SingleRun, path: Path, samples: Sequence[SampleRecord]) -> Outcome:
    failed = [s for s in samples if s.failed]
    outcome = Outcome(path, failed=len(failed), failure=failed[0].notes[0] if failed else "")
    missed = [s for s in samples if s.tokens["final"] != s.tokens["target"]]
    if not missed or not part.blueprint.pruner.exact:
        return outcome
    first = missed[0]
    example = f"{first.task}/{first.doc_id}: {first.tokens['final']} tokens instead of {first.tokens['target']}"
    return replace(outcome, missed=len(missed), example=example)
