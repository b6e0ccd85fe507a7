"""One job: the unpruned model unless its record exists, the method, the timing of both, the records.

prepare (sessions, fingerprints) ▸ answers, journalled ▸ latency, interleaved ▸ records, tables
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from meteor_bench import suites
from meteor_bench.config import RunConfig
from meteor_bench.part import Part
from meteor_bench.progress import say, track
from meteor_bench.records import SESSIONS, LatencySample, SampleRecord
from meteor_bench.store import RunFolder, check_writable, find_complete, read_latency

if TYPE_CHECKING:
    from meteor_bench.core.session import Request, Session

__all__ = ["LATENCY_REQUESTS", "Job", "Outcome", "build_session", "execute", "plan", "prepare"]

LATENCY_REQUESTS = 24


@dataclass(frozen=True)
class Outcome:
    """What a job came to.

    Attributes:
        path: the run's folder.
        missed: samples on which a method that promises its budget missed it.
        example: one of them, for the message.
    """

    path: Path
    missed: int = 0
    example: str = ""


@dataclass(frozen=True)
class Job:
    """The method's run and, where one is wanted, the unpruned run it is compared with; built, not yet run."""

    main: Part
    unpruned: Part | None

    def finished(self) -> Path | None:
        """The folder of an identical run that is complete and timed."""
        path = find_complete(self.main.config.out, self.main.fingerprint)
        return path if path and read_latency(path) else None


def plan(config: RunConfig) -> list[str]:
    """What `execute` would do, a line each; checks names, parameters and device, builds no model.

    Raises:
        MeteorBenchError: the run cannot work.
    """
    _quiet_libraries()
    from meteor_bench.core.build import make_pruner, resolve_model

    pruner = make_pruner(config.method, config.parameters, config.stages)
    card = resolve_model(config.model, pruner, config.source)
    device, dtype = _device_and_dtype(config)
    shown = ", ".join(f"{k}={v}" for k, v in pruner.parameters().items()) or "no parameters"
    runs = [f"{config.method} on {card.name} at ratio {config.ratio:g} ({shown})"]
    if config.method != "none" and config.baseline:
        runs.insert(0, f"unpruned on {config.model}, unless {config.out} holds its record")
    asked = {row: min(row.n, config.limit or row.n) for row in suites.resolve(config.suite, config.tasks)}
    return [
        *(f"run        {run}" for run in runs),
        *(f"benchmark  {row.task}: {n} questions, {row.metric}" for row, n in asked.items()),
        f"latency    {min(LATENCY_REQUESTS, sum(asked.values()))} requests, batch 1",
        f"device     {device}, {dtype}, batch {config.batch_size}, seed {config.seed}",
        f"out        {config.out}",
    ]


def prepare(config: RunConfig) -> Job:
    """Build the sessions of a job.

    Raises:
        MeteorBenchError: the folder cannot be written, a checkpoint is broken, or method, model and ratio do not fit.
    """
    _quiet_libraries()
    check_writable(config.out)
    unpruned = None
    if config.method != "none" and config.baseline:
        plainly = config.unpruned()
        unpruned = Part(plainly, build_session(plainly, config.device))
    session = build_session(config, config.device, like=unpruned.session if unpruned else None)
    return Job(Part(config, session, unpruned.fingerprint if unpruned else None), unpruned)


def execute(config: RunConfig, job: Job | None = None) -> Outcome:
    """Do a job and write its folders.

    Args:
        job: its sessions, where they have been built already.

    Raises:
        MeteorBenchError: something the user can put right.
        KeyboardInterrupt: passed on; what was answered is kept and the same config goes on from there.
    """
    started = perf_counter()
    say("loading libraries and weights")
    job = job or prepare(config)
    main, unpruned = job.main, job.unpruned
    # Before any progress bar. (In a thread beside the building of the model it takes longer: both hold Python's lock.)
    from meteor_bench.lmms.harness import load_evaluator

    load_evaluator()
    main.seconds["load"] = perf_counter() - started
    with ExitStack() as stack:
        new: list[tuple[Part, RunFolder]] = []
        for part in (unpruned, main):
            if part is None:
                continue
            if part is unpruned and (found := find_complete(config.out, part.fingerprint)):
                say(f"unpruned: taken from {found}")
                continue
            folder = stack.enter_context(RunFolder.open(part.config, part.fingerprint))
            samples = part.answer(folder)
            if part is unpruned:
                part.finish(folder)  # of use to others, whatever becomes of the method
            new.append((part, folder))
        timings = _time(main, unpruned)
        for part, folder in new:
            part.finish(folder, timings if part is main else _alone(timings))
    return _outcome(main, folder.path, samples)


def build_session(config: RunConfig, device: str, like: Session | None = None) -> Session:
    """The model with its method, ready to answer.

    Args:
        device: as in `RunConfig`.
        like: a session whose model is taken where it is the same.

    Raises:
        MeteorBenchError: the checkpoint is broken, or method, model and ratio do not fit.
    """
    from meteor_bench.core.build import build

    resolved, dtype = _device_and_dtype(replace(config, device=device))
    return build(
        config.model,
        config.method,
        ratio=config.ratio,
        parameters=config.parameters,
        stages=config.stages,
        positions=config.positions,
        device=resolved,
        dtype=dtype,
        seed=config.seed,
        source=config.source,
        calibration=_calibration,
        like=like,
    )


def _calibration() -> Sequence[Request]:
    from meteor_bench.core.session import Request

    return [
        Request(item.key, item.media_key, item.media, item.question, max_new_tokens=1)
        for item in suites.calibration_requests()
    ]


def _time(main: Part, unpruned: Part | None) -> list[LatencySample]:
    """Both models in turn, request by request, so that a machine's moods hit both."""
    from meteor_bench.core.latency import measure
    from meteor_bench.lmms.requests import spread

    sessions = {"run": main.session} if unpruned is None else {"unpruned": unpruned.session, "run": main.session}
    started = perf_counter()
    requests = spread(main.session, [row.task for row in main.benchmarks], min(LATENCY_REQUESTS, main.questions))
    done = 0
    with track("latency", len(requests)) as update:

        def on_step() -> None:
            nonlocal done
            done += 1
            update(done)

        raw = measure(sessions, requests, on_step=on_step)
    main.seconds["latency"] = perf_counter() - started
    return [
        LatencySample(session, times["request"], {k: v for k, v in times.items() if k != "request"})
        for session in SESSIONS
        for times in raw.get(session, ())
    ]


def _alone(timings: Sequence[LatencySample]) -> list[LatencySample]:
    """The unpruned model's timings, as its own folder holds them."""
    return [replace(sample, session="run") for sample in timings if sample.session == "unpruned"]


def _outcome(part: Part, path: Path, samples: Sequence[SampleRecord]) -> Outcome:
    missed = [s for s in samples if s.tokens["final"] != s.tokens["target"]]
    if not missed or not part.session.pruner.exact:
        return Outcome(path)
    first = missed[0]
    example = f"{first.task}/{first.doc_id}: {first.tokens['final']} tokens instead of {first.tokens['target']}"
    return Outcome(path, len(missed), example)


def _device_and_dtype(config: RunConfig) -> tuple[str, str]:
    """Both with "auto" resolved."""
    from meteor_bench.core.build import resolve_device

    device = resolve_device(config.device)
    return device, ("float32" if device == "cpu" else "bfloat16") if config.dtype == "auto" else config.dtype


def _quiet_libraries() -> None:
    """Nothing is fetched and nobody is told, unless the user's environment says otherwise; read at import."""
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
