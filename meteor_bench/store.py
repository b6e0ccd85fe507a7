"""Run folders on disk: written whole or not at all, resumable, checked when they are read.

    <out>/<time>-<method>-<ratio>-<fingerprint8>/
        run.json          `RunRecord`
        samples.jsonl.gz  one `SampleRecord` a line
        scores.json.gz    `ScoreRecord`, made of them for those who read many runs
        latency.jsonl     raw timings, one `LatencySample` a line
        answers.jsonl     the journal: answers as they were produced, read again by a run that resumes
        report.md .csv .json

A folder is held by one process at a time (a lock that dies with it).
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TypeVar

from meteor_bench.config import RunConfig
from meteor_bench.errors import RecordError
from meteor_bench.plain import PlainError, fit, plain
from meteor_bench.records import SCHEMA, LatencySample, RunRecord, SampleRecord, migrated
from meteor_bench.scores import ScoreRecord, summarise

__all__ = [
    "RunFolder",
    "check_writable",
    "find_complete",
    "find_runs",
    "read_latency",
    "read_run",
    "read_samples",
    "read_scores",
    "replace_file",
]

T = TypeVar("T")


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
        """The unfinished (or never timed) folder of this fingerprint that nobody holds, or a new one.

        Raises:
            RecordError: the folder cannot be made.
        """
        now = now or datetime.now(UTC)
        for path in _named(config.out, fingerprint):
            record = _read_if_valid(path)
            if record is None or record.fingerprint != fingerprint or (record.status == "complete" and _is_timed(path)):
                continue
            if lock := _lock(path):
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
        """Replace samples.jsonl.gz and its summary; equal samples give equal bytes."""
        rows = list(samples)
        content = _packed(_joined(_line(s) for s in rows))
        self._replace("samples.jsonl.gz", content)
        self._replace("scores.json.gz", _packed(_line(summarise(rows, _digest(content))).encode()))

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
        replace_file(self.path / name, content)


def replace_file(file: Path, content: bytes) -> None:
    """Write under another name, then rename: a reader (or a crash) never sees half a file. Makes its folder.

    Raises:
        RecordError: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RecordError(f"cannot write {file}: {error.strerror}") from None


def check_writable(out: Path) -> None:
    """Fail before minutes of work rather than after them; leaves nothing behind.

    Raises:
        RecordError: the folder cannot be made or written.
    """
    # Making the folder and removing it again would pull it away from under another process.
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    try:
        with TemporaryFile(dir=there):
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
    known = migrated(data)
    if known is None:
        raise RecordError(f"{file} has schema {data['schema']}; this version reads schemas 1 to {SCHEMA}")
    return _fit(known, RunRecord, str(file))


def read_samples(folder: Path) -> list[SampleRecord]:
    """The samples of a run's folder.

    Raises:
        RecordError: they are missing, cut or foreign.
    """
    return list(_lines(folder / "samples.jsonl.gz", SampleRecord))


def read_scores(folder: Path) -> ScoreRecord:
    """The summary of a run's samples; made of the samples themselves where it is missing or not theirs.

    Raises:
        RecordError: the samples are missing, cut or foreign.
    """
    file = folder / "samples.jsonl.gz"
    digest = _digest(file.read_bytes()) if file.is_file() else ""
    try:
        known = json.loads(gzip.decompress((folder / "scores.json.gz").read_bytes()))
        if isinstance(known, dict) and known.get("samples") == digest:
            return _fit(known, ScoreRecord, "scores.json.gz")
    except (OSError, EOFError, zlib.error, ValueError, RecordError):
        pass  # of an earlier version, or damaged: nothing is lost with it
    return summarise(read_samples(folder), digest)


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


def _is_timed(folder: Path) -> bool:
    file = folder / "latency.jsonl"
    return file.is_file() and file.stat().st_size > 0


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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=9, mtime=0)


def _line(value: SampleRecord | LatencySample | ScoreRecord) -> str:
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
    except (
        OSError,
        EOFError,
        zlib.error,
        UnicodeDecodeError,
    ) as error:  # gzip's errors are OSErrors; a cut file is an EOFError
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
