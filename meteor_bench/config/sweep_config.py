"""What a sweep is: a `SweepConfig` from flags and YAML; its fields are those of `RunConfig`, some of them as lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from meteor_bench.config import run_config as of_run
from meteor_bench.config.entries import entry
from meteor_bench.config.run_config import Entry
from meteor_bench.config.spec import Flag, Known
from meteor_bench.config.yaml_settings import fit_flags, read_file
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.settings import Range

__all__ = ["ALL", "SweepConfig", "load"]

ALL = "all"


def _method(name: str) -> None:
    if name != ALL:
        of_run.check("method", name)


@dataclass(frozen=True)
class SweepConfig:
    """A sweep, as the user asked for it. The unpruned model is run once per model and suite in any case.

    Attributes:
        methods: names, compositions, entries with settings of their own, or "all" for the whole table.
        ratios: fractions of the visual tokens to remove.
        match: what the ratios are of; see `core.match`.
        models, suites: by name.
        tasks: benchmarks by name, in place of the suites.
        seeds: of methods that draw, all of them; of the others, the first.
        latency: whether the runs are timed.
        engine: "sequential" in this process, or "ray".
        address: of a running Ray cluster; None starts a local one.
        gpu_share: GPUs (or the part of one) that a cell on CUDA holds under Ray.
        the rest: as in `RunConfig`.
    """

    methods: Annotated[
        tuple[Annotated[str, Known(_method)] | Entry, ...],
        Flag(
            "Rows of `list methods` separated by commas, also with settings: 'fastv,meteor(budgets=uniform)'; all for "
            "the whole table.",
            completes="methods,all",
            reads=entry,
        ),
    ] = ()
    ratios: Annotated[
        tuple[of_run.Ratio, ...],
        Flag("Fractions of the visual tokens to remove: 0.5,0.76; on pocket-independent of pocket's 256."),
    ] = ()
    match: of_run.Match = "tokens"
    models: Annotated[
        tuple[of_run.Model, ...], Flag("Rows of `list models`, folders or hub ids.", completes="models")
    ] = ("pocket",)
    source: of_run.Source = None
    suites: Annotated[
        tuple[of_run.Suite, ...],
        Flag("Benchmarks by suite, or several suites.", name="--suite", completes="suites"),
    ] = ("pocket",)
    tasks: of_run.Tasks = ()
    seeds: Annotated[tuple[of_run.Seed, ...], Flag("Of methods that draw; the others take the first.")] = (0, 1, 2)
    limit: of_run.Limit = None
    batch_size: of_run.BatchSize = 64
    deterministic: of_run.Deterministic = False
    device: of_run.Device = "auto"
    dtype: of_run.Dtype = "auto"
    data_root: of_run.DataRoot = None
    frames: of_run.Frames = None
    out: of_run.Out = Path("results/runs")
    latency: Annotated[bool, Flag("Also time each run.")] = True
    engine: Annotated[Literal["sequential", "ray"], Flag("sequential or ray.")] = "sequential"
    address: Annotated[str | None, Flag("Of a running Ray cluster.", default="a local one is started")] = None
    gpu_share: Annotated[float, Flag("GPUs that a cell holds under Ray."), Range(above=0, most=64)] = 1.0

    def validate(self) -> None:
        """Check what no single key shows.

        Raises:
            ConfigError: what is wrong and what would be right.
        """
        for name in ("methods", "ratios", "models", "suites", "seeds"):
            if not getattr(self, name):
                example = {"methods": "fastv,meteor (or all)", "ratios": "0.5,0.76"}.get(name, "...")
                raise ConfigError(f"a sweep needs {name}; say --{name} {example}")


def load(file: Path | None, flags: Mapping[str, Any]) -> SweepConfig:
    """A sweep from a YAML file and flags; flags win.

    Args:
        file: a YAML file, None for flags alone.
        flags: values of the flags that the user gave, by the names of `SweepConfig`.

    Raises:
        ConfigError: naming the flag, or the file with line and key.
    """
    values = {} if file is None else read_file(file, SweepConfig)
    config = SweepConfig(**{**values, **fit_flags(flags, SweepConfig)})
    config.validate()
    return config
