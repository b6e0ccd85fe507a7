"""What a run leaves on disk: one folder, versioned, written whole or not at all, resumable.

    <out>/<time>-<method>-<ratio>-<fingerprint8>/
        run.json          `RunRecord`
        samples.jsonl.gz  one `SampleRecord` a line
        latency.jsonl     raw timings, one `LatencySample` a line
        answers.jsonl     the journal: answers as they were produced, read again by a run that resumes
        report.md .csv .json

``results/README.md`` explains every column. A folder is held by one process at a time (a lock that dies with it).
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal, TypeVar

from meteor_bench.config import RunConfig
from meteor_bench.errors import RecordError
from meteor_bench.plain import PlainError, fit, plain
from meteor_bench.provenance import Environment

__all__ = [
    "SCHEMA",
    "SESSIONS",
    "LatencySample",
    "RunFolder",
    "RunRecord",
    "SampleRecord",
    "Spread",
    "TaskRecord",
    "TokenRecord",
    "check_writable",
    "find_complete",
    "find_runs",
    "read_latency",
    "read_run",
    "read_samples",
]

SCHEMA = 1
SessionName = Literal["unpruned", "run"]
SESSIONS: tuple[SessionName, ...] = ("unpruned", "run")

T = TypeVar("T")


@dataclass(frozen=True)
class TaskRecord:
    """A benchmark's result.

    Attributes:
        task: name of the benchmark.
        group: the skill it belongs to.
        metric: the headline metric, as lmms-eval names it.
        score: the headline metric on a scale of 0 to 100.
        metrics: every metric that lmms-eval gave, on its own scale.
        sample_metric: the metric that a sample's score is its part in.
        families: mean score of each kind of question, 0 to 100; empty where documents name none.
        n: documents answered.
        n_expected: documents there are, under the limit.
        data: digest of the documents.
    """

    task: str
    group: str
    metric: str
    score: float
    metrics: Mapping[str, float]
    sample_metric: str
    families: Mapping[str, float]
    n: int
    n_expected: int
    data: str


@dataclass(frozen=True)
class Spread:
    """A count over the samples of a run."""

    mean: float
    min: float
    max: float
    sd: float


@dataclass(frozen=True)
class TokenRecord:
    """Visual tokens of a run, summarised from the samples.

    Attributes:
        towers: tokens that left each encoder.
        fused: after fusion.
        llm_input: at the language model's first layer.
        final: after the last pruning point; what the ratio is measured on.
        layer_mean: mean over the language model's layers.
        kv_mean: mean over the layers' key/value caches.
        text: tokens around the visual ones.
        answer: tokens generated.
        reference: what the unpruned reference model feeds its language model.
        target: what the budget allows after the last pruning point.
        requested_ratio: fraction to remove.
        realised_ratio: 1 - sum of final / sum of reference.
        missed: samples whose final count is not the target.
    """

    towers: Mapping[str, Spread]
    fused: Spread
    llm_input: Spread
    final: Spread
    layer_mean: Spread
    kv_mean: Spread
    text: Spread
    answer: Spread
    reference: Spread
    target: Spread
    requested_ratio: float
    realised_ratio: float
    missed: int


@dataclass(frozen=True)
class RunRecord:
    """A run.

    Attributes:
        schema: version of this layout.
        status: "partial" until everything is written.
        started, finished: UTC, ISO 8601.
        fingerprint: hash of everything that can change an answer.
        baseline: fingerprint of the unpruned run it is compared with; None for an unpruned run.
        config: what the user asked for.
        model: row of the model table that was run (a method may take a variant of the named one).
        checkpoint: digest of the weights.
        parameters: all hyperparameters of the method.
        positions: the position policy used.
        exact: whether the method promises its budget on every sample.
        facts: what was measured offline for the method (a calibrated threshold and what it realised).
        environment: versions, commit, machine.
        tasks: results per benchmark, in the order of the suite.
        tokens: summary of the token counts.
        flops: mean FLOPs per sample.
        seconds: wall time of each part of the run.
    """

    schema: int
    status: Literal["partial", "complete"]
    started: str
    fingerprint: str
    baseline: str | None
    config: RunConfig
    model: str
    checkpoint: str
    parameters: Mapping[str, Any]
    positions: str
    exact: bool
    facts: Mapping[str, Any]
    environment: Environment
    finished: str | None = None
    tasks: tuple[TaskRecord, ...] = ()
    tokens: TokenRecord | None = None
    flops: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleRecord:
    """One question.

    Attributes:
        task: name of the benchmark.
        doc_id: index of the document in it.
        media_key: the image or video; questions that share it are not independent.
        family: the kind of question, where the document names one.
        question: the prompt.
        target: the true answer.
        answer: what was scored.
        raw: what was generated.
        score: 0 to 1, the document's part in the headline metric (or in what stands for it, `sample_metric`).
        tokens: columns of the token table.
        latency_ms: of the accuracy run, which shares work between samples: not for comparison.
        flops: stage -> FLOPs of this question answered alone.
        notes: substitutions that the engine made.
    """

    task: str
    doc_id: int
    media_key: str
    family: str
    question: str
    target: Any
    answer: Any
    raw: str
    score: float
    tokens: Mapping[str, Any]
    latency_ms: Mapping[str, float]
    flops: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LatencySample:
    """Raw timing of one request at batch 1, nothing reused.

    Attributes:
        session: "unpruned" or "run".
        request: its key; both sessions answer the same requests, in turn.
        times: milliseconds and FLOPs as `core.latency.measure` gives them.
    """

    session: SessionName
    request: str
    times: Mapping[str, Any]


class RunFolder:
    """A run's folder, held by this process until the end of its ``with`` block (or its death).

    Attributes:
        path: the folder.
        started: when the run was first started, UTC.
        resumed: whether an unfinished run of the same fingerprint was found.
    """

    def __init__(self, path: Path, lock: IO[bytes], started: str, *, resumed: bool) -> None:
        self.path, self.started, self.resumed = path, started, resumed
        self._lock = lock

    @classmethod
    def open(cls, config: RunConfig, fingerprint: str, now: datetime | None = None) -> RunFolder:
        """The unfinished folder of this fingerprint that nobody holds, or a new one.

        Raises:
            RecordError: the folder cannot be made.
        """
        now = now or datetime.now(UTC)
        for path in _named(config.out, fingerprint):
            record = _read_if_valid(path)
            if record and record.status == "partial" and record.fingerprint == fingerprint and (lock := _lock(path)):
                return cls(path, lock, record.started, resumed=True)
        stem = f"{now:%Y%m%d-%H%M%S}-{config.method}-{config.ratio:g}-{fingerprint[:8]}"
        for attempt in range(1, 1000):
            path = config.out / (stem if attempt == 1 else f"{stem}.{attempt}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue  # another process started the same run in the same second
            except OSError as error:
                raise RecordError(f"cannot write to {config.out}: {error.strerror}") from None
            if lock := _lock(path):
                return cls(path, lock, now.isoformat(timespec="seconds"), resumed=False)
        raise RecordError(f"cannot find a free name for a run in {config.out}")

    @property
    def journal(self) -> Path:
        """Where answers are appended as they are produced."""
        return self.path / "answers.jsonl"

    def write(self, record: RunRecord) -> None:
        """Replace run.json."""
        self.write_text("run.json", json.dumps(plain(record), indent=1, ensure_ascii=False) + "\n")

    def write_samples(self, samples: Iterable[SampleRecord]) -> None:
        """Replace samples.jsonl.gz; equal samples give equal bytes."""
        lines = (_line(s) for s in samples)
        self._replace("samples.jsonl.gz", gzip.compress(_joined(lines), compresslevel=9, mtime=0))

    def write_latency(self, samples: Iterable[LatencySample]) -> None:
        """Replace latency.jsonl."""
        self._replace("latency.jsonl", _joined(_line(s) for s in samples))

    def write_text(self, name: str, text: str) -> None:
        """Replace a text file of the folder."""
        self._replace(name, text.encode())

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def _replace(self, name: str, content: bytes) -> None:
        """Write under another name, then rename: a reader (or a crash) never sees half a file."""
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RecordError(f"cannot write {self.path / name}: {error.strerror}") from None


def check_writable(out: Path) -> None:
    """Fail before minutes of work rather than after them; makes the folder.

    Raises:
        RecordError: the folder cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise RecordError(f"cannot write to {out}: {error.strerror}") from None


def read_run(folder: Path) -> RunRecord:
    """The record of a run's folder.

    Raises:
        RecordError: it is missing, cut, foreign or of another version.
    """
    file = folder / "run.json"
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise RecordError(f"{file} is cut or no record: {error}") from None
    if not isinstance(data, dict) or "schema" not in data:
        raise RecordError(f"{file} is no meteor-bench record: it has no 'schema'")
    if data["schema"] != SCHEMA:
        raise RecordError(f"{file} has schema {data['schema']}; this version reads schema {SCHEMA}")
    return _fit(data, RunRecord, str(file))


def read_samples(folder: Path) -> list[SampleRecord]:
    """The samples of a run's folder.

    Raises:
        RecordError: they are missing, cut or foreign.
    """
    return list(_lines(folder / "samples.jsonl.gz", SampleRecord))


def read_latency(folder: Path) -> list[LatencySample]:
    """The raw timings of a run's folder; none when it was not timed.

    Raises:
        RecordError: they are cut or foreign.
    """
    file = folder / "latency.jsonl"
    return list(_lines(file, LatencySample)) if file.exists() else []


def find_runs(path: Path) -> list[Path]:
    """The run folders that ``path`` is or holds, in the order of their names.

    Raises:
        RecordError: there is none.
    """
    if not path.is_dir():
        raise RecordError(f"{path} is {'a file' if path.exists() else 'not there'}; expected a folder of runs")
    if (path / "run.json").exists():
        return [path]
    runs = sorted(file.parent for file in path.glob("*/run.json"))
    if not runs:
        raise RecordError(f"{path} holds no run (no run.json in it or in a folder below it)")
    return runs


def find_complete(out: Path, fingerprint: str) -> Path | None:
    """The newest complete run of this fingerprint in a results folder, None when there is none."""
    for path in reversed(_named(out, fingerprint)):
        record = _read_if_valid(path)
        if record and record.status == "complete" and record.fingerprint == fingerprint:
            return path
    return None


def _named(out: Path, fingerprint: str) -> list[Path]:
    return sorted(path for path in out.glob(f"*-{fingerprint[:8]}*") if path.is_dir())


def _read_if_valid(folder: Path) -> RunRecord | None:
    """A folder that cannot be read is as good as not there when one looks for something to reuse."""
    try:
        return read_run(folder)
    except RecordError:
        return None


def _lock(folder: Path) -> IO[bytes] | None:
    """An exclusive hold on a folder, None when another process has it; the system lets go when its holder dies."""
    stream = (folder / ".lock").open("wb")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


def _line(value: SampleRecord | LatencySample) -> str:
    return json.dumps(_rounded(plain(value)), ensure_ascii=False, separators=(",", ":"))


def _rounded(value: Any) -> Any:
    """Seven digits say all that a clock or a mean can, in half the bytes."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _joined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(file: Path, kind: type[T]) -> Iterator[T]:
    try:
        content = file.read_bytes()
        text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode()
    except FileNotFoundError:
        raise RecordError(f"{file} is missing") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:  # gzip's errors are OSErrors; a cut file is an EOFError
        raise RecordError(f"{file} is cut or damaged: {error}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            data = json.loads(line)
        except ValueError as error:
            raise RecordError(f"{file}:{number} is cut or no record: {error}") from None
        yield _fit(data, kind, f"{file}:{number}")


def _fit(data: Any, kind: type[T], where: str) -> T:
    try:
        value: T = fit(data, kind)
    except PlainError as error:
        raise RecordError(f"{where}: {error}") from None
    return value
