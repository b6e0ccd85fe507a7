"""What is in a run's folder, checked as it is read: a file that is cut, foreign or of another version is one line."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from meteor_bench.core.errors import RecordError
from meteor_bench.records.schema import SCHEMA, LatencySample, RunRecord, SampleRecord, migrated
from meteor_bench.records.score_cache import ScoreRecord, summarise
from meteor_bench.utils.structuring import PlainError, fit

__all__ = ["digest_of", "read_latency", "read_run", "read_samples", "read_scores"]

T = TypeVar("T")


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
    digest = digest_of(file.read_bytes()) if file.is_file() else ""
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


def digest_of(content: bytes) -> str:
    """SHA-256, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


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
