"""The course of a sweep: cell after cell in this process, or on Ray, with progress; what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from time import perf_counter

from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.sweep_config import SweepConfig
from meteor_bench.records.reader import read_run
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.sweep.grid import cells, title
from meteor_bench.runs.sweep.task import Result, attempt
from meteor_bench.utils.atomic_io import check_writable
from meteor_bench.utils.progress import duration, overall, say

__all__ = ["follow", "one_after_another", "sweep"]


def sweep(config: SweepConfig) -> list[Result]:
    """Do all cells; one that fails does not stop the others.

    Raises:
        MeteorBenchError: nothing can be done: a wrong parameter, a folder that cannot be written, Ray not installed.
        KeyboardInterrupt: passed on; what was answered is kept and the same sweep goes on from there.
    """
    runs = cells(config)
    check_writable(config.out)
    return follow("sweep", runs, _engine(config)(runs))


def follow(name: str, runs: Sequence[RunConfig], results: Iterator[Result]) -> list[Result]:
    """Say what becomes of each run as it ends, and how long the rest will take; the results in the order of the runs.

    Args:
        name: of the whole, for the bar.
        results: of these runs, in whatever order; taking the next one does it.
    """
    ended: list[Result] = []
    started = perf_counter()
    with overall(name, len(runs)) as update:
        update(0, "")
        for result in results:
            ended.append(result)
            left = _left(ended, len(runs), perf_counter() - started)
            update(len(ended), left)
            say(f"[{len(ended):{len(str(len(runs)))}}/{len(runs)}] {_line(runs, result)}{left and f' ({left})'}")
    return sorted(ended, key=lambda result: runs.index(result.run))


def one_after_another(runs: Sequence[RunConfig], *, timed: bool, shared: ModelCache | None = None) -> Iterator[Result]:
    """Do runs in this process; models, requests and the unpruned runs are shared by all of them.

    Args:
        shared: what runs before them have loaded.
    """
    shared = shared or ModelCache()
    for run in runs:
        yield attempt(run, shared, timed=timed)


def _engine(config: SweepConfig) -> Callable[[Sequence[RunConfig]], Iterator[Result]]:
    if config.engine == "ray":
        from meteor_bench.runs.sweep.ray_backend import load_ray, on_ray

        load_ray()
        return partial(on_ray, config)
    return partial(one_after_another, timed=config.latency)


def _left(results: Sequence[Result], total: int, elapsed: float) -> str:
    """The time left at the pace of the cells that were not found finished."""
    paces = [result.seconds for result in results if not result.kept]
    rest = total - len(results)
    if not paces or not rest:
        return ""
    # The first cell is slow, it loads everything; cells that run side by side end faster than each of them takes.
    return f"about {duration(rest * min(median(paces), elapsed / len(paces)))} left"


def _line(runs: Sequence[RunConfig], result: Result) -> str:
    several = [result.run.model] * (len({run.model for run in runs}) > 1)
    several += [_asked(result.run)] * (len({_asked(run) for run in runs}) > 1)
    name = ", ".join([title(result.run), *several])
    if result.reason or result.path is None:
        return f"{name}: FAILED: {result.reason}"
    scores = [task.score for task in read_run(result.path).tasks]
    how = "found finished" if result.kept else duration(result.seconds)
    return f"{name}: {sum(scores) / len(scores):.1f} on average, {how}"


def _asked(run: RunConfig) -> str:
    return ", ".join(run.tasks) or run.suite
