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

__all__ = ["Result", "attempt"]

# What a broken method, somebody else's perhaps, raises (torch's errors are RuntimeErrors); an interruption is none.
_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


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
    except _BROKEN as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Result(run, None, f"{said} (traceback: {_keep(run)})", seconds=perf_counter() - started)


def _missed(path: Path) -> str:
    """What is wrong with a complete run, if anything."""
    record = read_run(path)
    missed = record.tokens.missed if record.exact and record.tokens else 0
    return f"the budget was missed on {missed} samples ({path})" if missed else ""


def _keep(run: RunConfig) -> Path:
    folder = run.out / "errors"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{run.method_name}-{run.ratio:g}-seed{run.seed}.txt"
    file.write_text(traceback.format_exc(), encoding="utf-8")
    return file
