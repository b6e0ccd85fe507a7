"""Run folders on disk: written whole or not at all, resumable, found again; `meteor_bench.records.reader` reads them.

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
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import RecordError
from meteor_bench.records.reader import digest_of, read_run
from meteor_bench.records.schema import LatencySample, RunRecord, SampleRecord
from meteor_bench.records.score_cache import ScoreRecord, summarise
from meteor_bench.utils.atomic_io import (
    discard_dead,
    write_whole,
)
from meteor_bench.utils.safe_files import UnsafeFile, open_lock
from meteor_bench.utils.structuring import plain

__all__ = ["RunFolder", "find_complete", "find_runs"]


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
            if not (path / "run.json").exists() and (lock := _lock(path)):
                return cls(path, lock, now.isoformat(timespec="seconds"), resumed=False)  # killed before it began
            record = _read_if_valid(path)
            if record is None or record.fingerprint != fingerprint or (record.status == "complete" and _is_timed(path)):
                continue
            if lock := _lock(path):
                return cls(path, lock, record.started, resumed=True)
        of = "" if config.match == "tokens" else f"-{config.match}"
        stem = f"{now:%Y%m%d-%H%M%S}-{config.method_name}-{config.ratio:g}{of}-{fingerprint[:8]}"
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

    @classmethod
    def held(cls, path: Path) -> RunFolder | None:
        """A complete run's folder, to add what it lacks; None while another process has it.

        Raises:
            RecordError: it cannot be read.
        """
        started = read_run(path).started
        lock = _lock(path)
        return cls(path, lock, started, resumed=True) if lock else None

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
        self._replace("scores.json.gz", _packed(_line(summarise(rows, digest_of(content))).encode()))

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
        write_whole(self.path / name, content)


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
    try:
        stream = open_lock(folder / ".lock")
    except (OSError, UnsafeFile) as error:
        raise RecordError(f"{folder / '.lock'} cannot be held: {error}") from None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    for file in folder.glob(".*"):
        discard_dead(file)
    return stream


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
