"""The course of a sweep: cell after cell in this process, or on Ray, with progress; what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter

from meteor_bench.config import RunConfig
from meteor_bench.progress import duration, overall, say
from meteor_bench.shared import Shared
from meteor_bench.store import check_writable, read_run
from meteor_bench.sweep.cell import Result, attempt
from meteor_bench.sweep.grid import SweepConfig, cells, title

__all__ = ["sweep"]

Engine = Callable[[SweepConfig, Sequence[RunConfig]], Iterator[Result]]


def sweep(config: SweepConfig) -> list[Result]:
    """Do all cells; one that fails does not stop the others.

    Raises:
        MeteorBenchError: nothing can be done: a wrong parameter, a folder that cannot be written, Ray not installed.
        KeyboardInterrupt: passed on; what was answered is kept and the same sweep goes on from there.
    """
    runs = cells(config)
    check_writable(config.out)
    engine = _engine(config)
    results: list[Result] = []
    started = perf_counter()
    with overall("sweep", len(runs)) as update:
        update(0, "")
        for result in engine(config, runs):
            results.append(result)
            left = _left(results, len(runs), perf_counter() - started)
            update(len(results), left)
            say(f"[{len(results):{len(str(len(runs)))}}/{len(runs)}] {_line(config, result)}{left and f' ({left})'}")
    return sorted(results, key=lambda result: runs.index(result.run))


def one_after_another(config: SweepConfig, runs: Sequence[RunConfig]) -> Iterator[Result]:
    """The sequential engine: models, requests and the unpruned runs are shared by all cells."""
    shared = Shared()
    for run in runs:
        yield attempt(run, shared, timed=config.latency)


def _engine(config: SweepConfig) -> Engine:
    if config.engine == "ray":
        from meteor_bench.sweep.on_ray import load_ray, on_ray

        load_ray()
        return on_ray
    return one_after_another


def _left(results: Sequence[Result], total: int, elapsed: float) -> str:
    """The time left at the pace of the cells that were not found finished."""
    paces = [result.seconds for result in results if not result.kept]
    rest = total - len(results)
    if not paces or not rest:
        return ""
    # The first cell is slow, it loads everything; cells that run side by side end faster than each of them takes.
    return f"about {duration(rest * min(median(paces), elapsed / len(paces)))} left"


def _line(config: SweepConfig, result: Result) -> str:
    several = [result.run.model] * (len(config.models) > 1) + [result.run.suite] * (len(config.suites) > 1)
    name = ", ".join([title(result.run), *several])
    if result.reason or result.path is None:
        return f"{name}: FAILED: {result.reason}"
    scores = [task.score for task in read_run(result.path).tasks]
    how = "found finished" if result.kept else duration(result.seconds)
    return f"{name}: {sum(scores) / len(scores):.1f} on average, {how}"
