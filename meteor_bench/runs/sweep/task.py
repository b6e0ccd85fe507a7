"""One cell of a sweep: done, found finished, or failed with its reason; never the end of the others."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.records.reader import read_run
from meteor_bench.runs.job import execute, prepare
from meteor_bench.runs.model_cache import ModelCache

__all__ = ["Result", "attempt", "kept_traceback"]


@dataclass(frozen=True)
class Result:
    """What became of a cell.

    Attributes:
        run: its settings.
        path: its folder, None when it has none.
        reason: why it failed, one line; empty when it did not.
        kept: whether it was found finished.
        seconds: wall time, 0 when it was found finished.
    """

    run: RunConfig
    path: Path | None
    reason: str = ""
    kept: bool = False
    seconds: float = 0.0


def attempt(run: RunConfig, shared: ModelCache, *, timed: bool) -> Result:
    """Do a cell unless its identical run is finished.

    Args:
        shared: what cells before it have loaded.
        timed: also measure latency.

    Raises:
        KeyboardInterrupt: passed on.
    """
    started = perf_counter()
    try:
        job = prepare(run, shared)
        if path := job.finished(timed=timed):
            return Result(run, path, _missed(path), kept=True)
        path = execute(run, job, timed=timed, tables=False).path
        return Result(run, path, _missed(path), seconds=perf_counter() - started)
    except MeteorBenchError as error:
        return Result(run, None, " ".join(str(error).split()), seconds=perf_counter() - started)
    except Exception as error:  # a broken method, somebody else's perhaps, raises anything; an interruption is none
        return Result(run, None, kept_traceback(run, error), seconds=perf_counter() - started)


def _missed(path: Path) -> str:
    """What is wrong with a complete run, if anything."""
    record = read_run(path)
    missed = record.tokens.missed if record.exact and record.tokens else 0
    return f"the budget was missed on {missed} samples ({path})" if missed else ""


def kept_traceback(run: RunConfig, error: Exception) -> str:
    """What an error says, in one line, and the file in which its traceback is kept."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    folder = run.out / "errors"
    file = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{run.method_name}-{run.ratio:g}-{run.match}-seed{run.seed}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(traceback.format_exception(error))
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        return f"{said} (its traceback could not be kept: {failure.strerror})"
    return f"{said} (traceback: {file})"
