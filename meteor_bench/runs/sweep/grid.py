"""The runs that a sweep means, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

from meteor_bench.config.run_config import Entry, RunConfig
from meteor_bench.config.sweep_config import ALL, SweepConfig
from meteor_bench.core.errors import PluginError
from meteor_bench.core.registry import METHODS
from meteor_bench.records.provenance import fingerprint
from meteor_bench.utils.structuring import plain

__all__ = ["cells", "title"]

# What a sweep and all of its runs, the unpruned ones among them, have alike.
_SHARED = tuple({f.name for f in fields(SweepConfig)} & {f.name for f in fields(RunConfig)} - {"match"})


def cells(config: SweepConfig) -> list[RunConfig]:
    """The runs of a sweep, each once: per model and suite the unpruned one first, then method by method.

    Raises:
        ConfigError: a method does not take the parameters, stages or positions that an entry gives it.
    """
    found: dict[str, RunConfig] = {}
    for plain_run in _unpruned(config):
        for run in (plain_run, *_pruned(config, plain_run)):
            found.setdefault(fingerprint({"run": plain(run)}), run)
    return list(found.values())


def title(run: RunConfig) -> str:
    """A cell in a few words: "fastv(layer=3) at 0.5, seed 1"."""
    if run.method == "none":
        return run.label
    return f"{run.label} at {run.share}" + (f", seed {run.seed}" if run.seed else "")


def _unpruned(config: SweepConfig) -> Iterator[RunConfig]:
    # Named tasks stand for one suite.
    for model in config.models:
        for suite in config.suites[:1] if config.tasks else config.suites:
            yield RunConfig(model=model, suite=suite, **{name: getattr(config, name) for name in _SHARED})


def _pruned(config: SweepConfig, unpruned: RunConfig) -> Iterator[RunConfig]:
    from meteor_bench.engine.make_method import make_pruner

    for entry in _entries(config.methods):
        if entry.method == "none":
            continue
        try:
            draws = make_pruner(entry.method, entry.parameters, entry.stages).draws
        except PluginError:
            draws = False  # its cells fail one by one, and say so; the others do not
        for ratio in config.ratios:
            for seed in config.seeds if draws else config.seeds[:1]:
                yield replace(unpruned, **vars(entry), ratio=ratio, match=config.match, seed=seed)


def _entries(methods: Iterable[str | Entry]) -> Iterator[Entry]:
    for method in methods:
        if isinstance(method, Entry):
            yield method
        else:
            yield from map(Entry, METHODS.names() if method == ALL else [method])
