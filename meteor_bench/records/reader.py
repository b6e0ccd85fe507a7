"""What is in a run's folder, checked as it is read: a file that is cut, foreign or of another version is one line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from meteor_bench.core.errors import RecordError
from meteor_bench.records.schema import SCHEMA, LatencySample, RunRecord, SampleRecord, migrated
from meteor_bench.records.score_cache import ScoreRecord, summarise
from meteor_bench.utils.safe_files import (
    LARGE,
    UnsafeFile,
    gunzip,
    json_lines,
    json_value,
    open_regular,
    read_bytes,
    read_json,
)
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
        data = read_json(file)
    except OSError as error:
        raise RecordError(f"cannot read {file}: {error.strerror}") from None
    except UnsafeFile as error:
        raise RecordError(f"{file} is cut or no record: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
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
    try:
        digest = digest_of(read_bytes(file, LARGE)) if file.is_file() else ""
    except (OSError, UnsafeFile) as error:
        raise RecordError(f"{file} cannot be read: {error}") from None
    try:
        with open_regular(folder / "scores.json.gz") as stream:
            known = json_value(gunzip(stream).read(LARGE))
        if isinstance(known, dict) and known.get("samples") == digest:
            return _fit(known, ScoreRecord, "scores.json.gz")
    except (OSError, UnsafeFile, RecordError):
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
        with open_regular(file) as stream:
            for number, data in json_lines(gunzip(stream) if file.suffix == ".gz" else stream):
                yield _fit(data, kind, f"{file}:{number}")
    except FileNotFoundError:
        raise RecordError(f"{file} is missing") from None
    except OSError as error:
        raise RecordError(f"{file} cannot be read: {error.strerror}") from None
    except UnsafeFile as error:
        if error.line is not None:
            raise RecordError(f"{file}:{error.line} is cut or no record: {error}") from None
        raise RecordError(f"{file} is cut or damaged: {error}") from None


def _fit(data: Any, kind: type[T], where: str) -> T:
    try:
        value: T = fit(data, kind)
    except PlainError as error:
        raise RecordError(f"{where}: {error}") from None
    return value
