"""What a sweep is: a `SweepConfig` from flags and YAML, and the runs that it means.

Light as `meteor_bench.config.run_config`, whose checks it uses; only `cells` imports the methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from meteor_bench.config.run_config import RunConfig, Stage, check
from meteor_bench.config.yaml_settings import fit_flags, read_file
from meteor_bench.core.errors import (
    ConfigError,
    PluginError,
)
from meteor_bench.core.registry import METHODS
from meteor_bench.records.provenance import fingerprint
from meteor_bench.utils.structuring import PlainError, plain

__all__ = ["Entry", "SweepConfig", "cells", "load", "title"]

ALL = "all"
# Keys of which a sweep has several, and the setting of a run that each value of them is.
_MANY = {"methods": "method", "ratios": "ratio", "models": "model", "suites": "suite", "seeds": "seed"}


@dataclass(frozen=True)
class Entry:
    """A method of a sweep with what differs from its defaults; fields as in `RunConfig`."""

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Stage, ...] | None = None
    positions: Literal["keep", "renumber"] | None = None


@dataclass(frozen=True)
class SweepConfig:
    """A sweep, as the user asked for it. The unpruned model is run once per model and suite in any case.

    Attributes:
        methods: names, compositions, entries with settings of their own, or "all" for the whole table.
        ratios: fractions of the visual tokens to remove.
        models, suites: by name.
        tasks: benchmarks by name, in place of the suites.
        seeds: of methods that draw, all of them; of the others, the first.
        latency: whether the runs are timed.
        engine: "sequential" in this process, or "ray".
        address: of a running Ray cluster; None starts a local one.
        gpu_share: GPUs (or the part of one) that a cell on CUDA holds under Ray.
        source, limit, data_root, frames, batch_size, device, dtype, out: as in `RunConfig`.
    """

    methods: tuple[str | Entry, ...] = ()
    ratios: tuple[float, ...] = ()
    models: tuple[str, ...] = ("pocket",)
    suites: tuple[str, ...] = ("pocket",)
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    source: str | None = None
    limit: int | None = None
    data_root: Path | None = None
    frames: int | None = None
    batch_size: int = 64
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    out: Path = Path("results/runs")
    latency: bool = True
    engine: Literal["sequential", "ray"] = "sequential"
    address: str | None = None
    gpu_share: float = 1.0

    def validate(self) -> None:
        """Check what no single key shows.

        Raises:
            ConfigError: what is wrong and what would be right.
        """
        for name in _MANY:
            if not getattr(self, name):
                example = {"methods": "fastv,meteor (or all)", "ratios": "0.5,0.76"}.get(name, "...")
                raise ConfigError(f"a sweep needs {name}; say --{name} {example}")


def _check(name: str, value: Any) -> None:
    """Check one key's value; of a list, each element, so that the message names its place.

    Raises:
        ConfigError, PlainError: what is wrong and what would be right.
    """
    if name == "gpu_share" and not 0 < value <= 64:
        raise ConfigError(f"gpu_share must be above 0, not {value:g}")
    if name not in _MANY:
        check(name, value)
        return
    for at, element in enumerate(value):
        if element == ALL and name == "methods":
            continue
        try:
            check(_MANY[name], element.method if isinstance(element, Entry) else element)
        except ConfigError as error:
            raise PlainError((at,), str(error)) from None


def load(file: Path | None, flags: Mapping[str, Any]) -> SweepConfig:
    """A sweep from a YAML file and flags; flags win.

    Args:
        file: a YAML file, None for flags alone.
        flags: values of the flags that the user gave, by the names of `SweepConfig`.

    Raises:
        ConfigError: naming the flag, or the file with line and key.
    """
    values = {} if file is None else read_file(file, SweepConfig, _check, (*_MANY, "tasks"))
    given = fit_flags(flags, SweepConfig)
    for name, value in given.items():
        try:
            _check(name, value)
        except PlainError as error:
            raise ConfigError(error.reason) from None
    config = SweepConfig(**{**values, **given})
    config.validate()
    return config


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
    return f"{run.label} at {run.ratio:g}" + (f", seed {run.seed}" if run.seed else "")


def _unpruned(config: SweepConfig) -> Iterator[RunConfig]:
    # Named tasks stand for one suite.
    for model in config.models:
        for suite in config.suites[:1] if config.tasks else config.suites:
            yield RunConfig(
                model=model,
                source=config.source,
                suite=suite,
                tasks=config.tasks,
                limit=config.limit,
                batch_size=config.batch_size,
                device=config.device,
                dtype=config.dtype,
                data_root=config.data_root,
                frames=config.frames,
                out=config.out,
            )


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
                yield replace(unpruned, **vars(entry), ratio=ratio, seed=seed)


def _entries(methods: Iterable[str | Entry]) -> Iterator[Entry]:
    for method in methods:
        if isinstance(method, Entry):
            yield method
        else:
            yield from map(Entry, METHODS.names() if method == ALL else [method])
