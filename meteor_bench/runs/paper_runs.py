"""Which runs a paper's tables still need, and what they will take on this device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from meteor_bench.config.run_config import RunConfig
from meteor_bench.data import suites
from meteor_bench.report.paper.layout import Filled
from meteor_bench.report.paper.numbers import Run

__all__ = ["Need", "missing"]

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Need:
    """A run that is not there.

    Attributes:
        run: its settings.
        tables: keys of the tables that show it.
    """

    run: RunConfig
    tables: tuple[str, ...]


def missing(filled: Sequence[Filled], base: RunConfig) -> list[Need]:
    """The runs that would fill the empty cells, each once: unpruned ones first, then as the tables name them.

    Args:
        base: where and how to run: folder, device, batch size, limit.

    Raises:
        MeteorBenchError: a method does not take what a table gives it.
    """
    found: dict[str, Need] = {}
    for one in filled:
        for run in _wanted(one, base):
            key = repr(run)
            before = found[key].tables if key in found else ()
            found[key] = Need(run, tuple(dict.fromkeys((*before, one.table.name))))
    return sorted(found.values(), key=lambda need: need.run.method != "none")


def _wanted(one: Filled, base: RunConfig) -> Iterator[RunConfig]:
    """The runs of one table that are not on its index."""
    asked = one.asked.tasks
    timed = any(column.is_ in ("share", "time") or column.of == "speed" for column in one.columns)
    runs = [run for row in one.table.rows for run in row.runs] if asked else []
    # Each is compared with the unpruned model, also where that has no row of its own.
    unpruned = {run.model: Run("none", model=run.model) for run in runs if run.method != "none"}
    for run in (*unpruned.values(), *runs):
        # Other models than the one that is asked for are not run on its behalf.
        if run.model and not one.same_model and run.model != one.model:
            continue
        cell = one.index.find(one.model, run, asked, timed=timed)
        there = set(cell.seeds) if cell else set()
        for seed in _seeds(run):
            if seed not in there:
                yield _config(one, run, seed, base)


def _seeds(run: Run) -> tuple[int, ...]:
    from meteor_bench.engine.make_method import make_pruner

    return SEEDS if make_pruner(run.method, run.parameters, run.stages).draws else SEEDS[:1]


def _config(one: Filled, run: Run, seed: int, base: RunConfig) -> RunConfig:
    """A suite by its name where the benchmarks are just those of one."""
    asked = one.asked.tasks
    suite = next((name for name in suites.suite_names() if suites.suite_tasks(name) == asked), None)
    return replace(
        base,
        model=run.model or one.model,
        method=run.method,
        ratio=run.ratio,
        parameters=run.parameters,
        stages=run.stages,
        positions=run.positions,
        seed=seed,
        suite=suite or base.suite,
        tasks=() if suite else asked,
    )
