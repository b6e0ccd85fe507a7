"""One run: the unpruned model unless its record exists, the method, the timing of both, the records.

build sessions ▸ fingerprints ▸ answers (through lmms-eval, journalled) ▸ latency, interleaved ▸ run.json, tables
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from meteor_bench import suites
from meteor_bench.config import RunConfig
from meteor_bench.progress import say, track
from meteor_bench.provenance import code_digest, environment, fingerprint, hash_files, package_version
from meteor_bench.records import (
    SCHEMA,
    SESSIONS,
    LatencySample,
    RunFolder,
    RunRecord,
    SampleRecord,
    TaskRecord,
    check_writable,
    find_complete,
)

if TYPE_CHECKING:
    from meteor_bench.core.session import Request, Session
    from meteor_bench.lmms.evaluate import TaskResult

__all__ = ["LATENCY_REQUESTS", "Outcome", "build_session", "execute", "plan"]

LATENCY_REQUESTS = 32


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        path: the run's folder.
        missed: samples on which a method that promises its budget missed it.
        example: one of them, for the message.
    """

    path: Path
    missed: int = 0
    example: str = ""


@dataclass
class _Part:
    """One of the two runs of a job: the unpruned one or the method's."""

    config: RunConfig
    session: Session
    fingerprint: str
    baseline: str | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For progress lines."""
        config = self.config
        return "unpruned" if config.method == "none" else f"{config.method} at ratio {config.ratio:g}"


def plan(config: RunConfig) -> list[str]:
    """What `execute` would do, a line each; checks names, parameters and data, builds no model.

    Raises:
        MeteorBenchError: the run cannot work.
    """
    _quiet_libraries()
    from meteor_bench.core.build import make_pruner, resolve_model

    pruner = make_pruner(config.method, config.parameters, config.stages)
    card = resolve_model(config.model, pruner, config.source)
    rows = suites.resolve(config.suite, config.tasks)
    counts = [min(row.n, config.limit or row.n) for row in rows]
    device, dtype = _resolve_device(config)
    shown = ", ".join(f"{k}={v}" for k, v in pruner.parameters().items()) or "no parameters"
    runs = [f"{config.method} on {card.name} at ratio {config.ratio:g} ({shown})"]
    if config.method != "none" and config.baseline:
        runs.insert(0, f"unpruned on {config.model}, unless {config.out} holds its record")
    return [
        *(f"run        {run}" for run in runs),
        *(f"benchmark  {row.task}: {n} questions, {row.metric}" for row, n in zip(rows, counts, strict=True)),
        f"latency    {LATENCY_REQUESTS} requests, batch 1",
        f"device     {device}, {dtype}, batch {config.batch_size}, seed {config.seed}",
        f"out        {config.out}",
    ]


def execute(config: RunConfig) -> Outcome:
    """Do a run and write its folder.

    Raises:
        MeteorBenchError: something the user can put right.
        KeyboardInterrupt: passed on; what was answered is kept and the same config goes on from there.
    """
    _quiet_libraries()
    check_writable(config.out)
    started = perf_counter()
    say("loading libraries and weights")
    main, unpruned = _parts(config)
    _import_lmms_eval()
    main.seconds["load"] = perf_counter() - started
    new = [main] if unpruned is None else [unpruned, main]
    if unpruned is not None and (found := find_complete(config.out, unpruned.fingerprint)):
        say(f"unpruned: taken from {found}")
        new = [main]
    with ExitStack() as stack:
        folders = [stack.enter_context(RunFolder.open(part.config, part.fingerprint)) for part in new]
        results = [_answer(part, folder) for part, folder in zip(new, folders, strict=True)]
        timings = _time(main, unpruned)
        for part, folder, result in zip(new, folders, results, strict=True):
            _write(part, folder, result, timings if part is main else _alone(timings))
    return _outcome(main, folders[-1].path, results[-1])


def build_session(config: RunConfig, device: str) -> Session:
    """The model with its method, ready to answer.

    Args:
        device: as in `RunConfig`.

    Raises:
        MeteorBenchError: the checkpoint is broken, or method, model and ratio do not fit.
    """
    from meteor_bench.core.build import build

    resolved, dtype = _resolve_device(replace(config, device=device))
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
    )


def _calibration() -> Sequence[Request]:
    from meteor_bench.core.session import Request

    return [
        Request(item.key, item.media_key, item.media, item.question, max_new_tokens=1)
        for item in suites.calibration_requests()
    ]


def _parts(config: RunConfig) -> tuple[_Part, _Part | None]:
    """The method's run and, where one is wanted, the unpruned run it is compared with."""
    unpruned = None
    if config.method != "none" and config.baseline:
        plainly = config.unpruned()
        session = build_session(plainly, config.device)
        unpruned = _Part(plainly, session, _fingerprint(plainly, session), None)
    session = build_session(config, config.device)
    baseline = unpruned.fingerprint if unpruned else None
    return _Part(config, session, _fingerprint(config, session), baseline), unpruned


def _fingerprint(config: RunConfig, session: Session) -> str:
    """Hash of everything that can change an answer.

    Batch size and threads are left out: a batch equals its rows run alone, so a run may go on with a smaller one.
    """
    rows = suites.resolve(config.suite, config.tasks)
    about = {k: v for k, v in session.provenance.items() if k not in ("device", "facts")}
    return fingerprint(
        {
            **about,
            "schema": SCHEMA,
            "device": _device_name(session),
            "code": code_digest(),
            "versions": {name: package_version(name) for name in ("torch", "transformers", "lmms-eval")},
            "calibration": suites.calibration_digest() if session.provenance["facts"] else None,
            "limit": config.limit,
            "tasks": {row.task: _task_digest(row.task) for row in rows},
        }
    )


def _task_digest(task: str) -> str:
    """Hash of a benchmark's folder (questions, pictures, metric) and of what all of them share."""
    root = suites.tasks_dir()
    folders = [root / task, *sorted(root.glob("_*"))]
    files = (f for folder in folders for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return hash_files(files, root)


def _answer(part: _Part, folder: RunFolder) -> list[TaskResult]:
    """All questions through lmms-eval; those that the folder's journal holds are not asked again."""
    from meteor_bench.lmms.evaluate import evaluate

    config = part.config
    folder.write(_record(part, folder))
    if folder.resumed:
        say(f"{part.title}: goes on in {folder.path}")
    rows = suites.resolve(config.suite, config.tasks)
    known: dict[str, int] = {}
    started = perf_counter()
    with track(part.title, sum(min(row.n, config.limit or row.n) for row in rows)) as update:

        def on_progress(task: str, done: int, wanted: int) -> None:
            known[task] = done
            update(sum(known.values()))

        results = evaluate(
            part.session,
            [row.task for row in rows],
            journal=folder.journal,
            batch_size=config.batch_size,
            fingerprint=part.fingerprint,
            limit=config.limit,
            on_progress=on_progress,
        )
    part.seconds["answers"] = perf_counter() - started
    return results


def _time(main: _Part, unpruned: _Part | None) -> list[LatencySample]:
    """Both models in turn, request by request, so that a machine's moods hit both."""
    from meteor_bench.core.latency import measure
    from meteor_bench.lmms.requests import spread

    tasks = [row.task for row in suites.resolve(main.config.suite, main.config.tasks)]
    sessions = {"run": main.session} if unpruned is None else {"unpruned": unpruned.session, "run": main.session}
    started = perf_counter()
    requests = spread(main.session, tasks, LATENCY_REQUESTS)
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


def _write(part: _Part, folder: RunFolder, results: Sequence[TaskResult], timings: Sequence[LatencySample]) -> None:
    """Samples and timings, then the record that declares them complete, then the tables made of them."""
    from meteor_bench.report.cells import load
    from meteor_bench.report.render import FORMATS
    from meteor_bench.summary import mean_flops, summarise_tokens

    samples = _samples(results)
    folder.write_samples(samples)
    folder.write_latency(timings)
    rows = {row.task: row for row in suites.resolve(part.config.suite, part.config.tasks)}
    tasks = tuple(
        TaskRecord(
            task=result.task,
            group=rows[result.task].group,
            metric=rows[result.task].metric,
            score=result.headline,
            metrics=result.metrics,
            sample_metric=result.sample_metric,
            families=result.families,
            n=result.n,
            n_expected=result.n_expected,
            data=result.data_digest,
        )
        for result in results
    )
    folder.write(
        replace(
            _record(part, folder),
            status="complete",
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            tasks=tasks,
            tokens=summarise_tokens(samples, part.config.ratio),
            flops=mean_flops(samples),
            seconds={name: round(value, 3) for name, value in part.seconds.items()},
        )
    )
    cells = load(folder.path)
    for suffix, name in (("md", "markdown"), ("csv", "csv"), ("json", "json")):
        folder.write_text(f"report.{suffix}", FORMATS[name](cells))


def _record(part: _Part, folder: RunFolder) -> RunRecord:
    """What is known of a run before it has answered anything."""
    import torch

    from meteor_bench.core.probe import KERNEL

    about: Mapping[str, Any] = part.session.provenance
    return RunRecord(
        schema=SCHEMA,
        status="partial",
        started=folder.started,
        fingerprint=part.fingerprint,
        baseline=part.baseline,
        config=part.config,
        model=about["variant"],
        checkpoint=about["checkpoint"],
        parameters=about["parameters"],
        positions=about["positions"],
        exact=about["exact"],
        facts=about["facts"],
        environment=environment(_device_name(part.session), KERNEL, about["dtype"], torch.get_num_threads()),
    )


def _samples(results: Sequence[TaskResult]) -> list[SampleRecord]:
    return [
        SampleRecord(**{**sample, "notes": tuple(sample["notes"])}) for result in results for sample in result.samples
    ]


def _outcome(part: _Part, path: Path, results: Sequence[TaskResult]) -> Outcome:
    if not part.session.pruner.exact:
        return Outcome(path)
    missed = [s for s in _samples(results) if s.tokens["final"] != s.tokens["target"]]
    if not missed:
        return Outcome(path)
    first = missed[0]
    example = f"{first.task}/{first.doc_id}: {first.tokens['final']} tokens instead of {first.tokens['target']}"
    return Outcome(path, len(missed), example)


def _resolve_device(config: RunConfig) -> tuple[str, str]:
    """Device and dtype with "auto" resolved."""
    import torch

    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = ("float32" if device == "cpu" else "bfloat16") if config.dtype == "auto" else config.dtype
    return device, dtype


def _device_name(session: Session) -> str:
    import torch

    device = session.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _import_lmms_eval() -> None:
    """Ten seconds of imports, before any progress bar. (In a thread beside the building of the model it takes as
    long: both hold Python's lock.)"""
    from meteor_bench.lmms.harness import load_evaluator

    load_evaluator()


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
