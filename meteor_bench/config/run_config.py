"""What one run is: a `RunConfig` from flags and YAML, checked before anything heavy is imported.

A YAML file holds the same keys as the flags (``batch_size: 64`` for ``--batch-size 64``); a flag that is given wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from meteor_bench.config.yaml_settings import fit_flags, read_file
from meteor_bench.core.errors import ConfigError, UnknownNameError
from meteor_bench.core.method_file import MethodFile, shown
from meteor_bench.core.registry import METHODS, MODELS, parts_of
from meteor_bench.models.locate import check_model, is_location

__all__ = ["RunConfig", "Setting", "Stage", "check", "load"]

Stage = Literal["encode", "fuse", "decode"]


@dataclass(frozen=True)
class RunConfig:
    """One run, as the user asked for it. `load` checks it; a record is read without its method being installed.

    Attributes:
        model: row of the model table, or a checkpoint's folder or hub id.
        source: folder or hub id of other weights for a row of the table.
        method: row of the method table, a file that holds a method ("./loudest.py", "./loudest.py:Loudest"), or several
            joined by "+" in the order of their stages.
        parameters: hyperparameters of the method that differ from its defaults.
        ratio: fraction of the visual tokens removed, in [0, 1).
        stages: stages of the method that are switched on; None for all of them.
        positions: what a pruned token's successors do with their position ids; None for the method's own policy.
        suite: row of the suite table; ignored when tasks are given.
        tasks: benchmarks by name.
        limit: documents per benchmark, None for all.
        batch_size: requests answered together.
        reuse: let questions share what depends on their picture alone; without, the answers are the same.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" is float32 on a CPU, bfloat16 elsewhere.
        seed: of everything that a method draws.
        data_root: folder with data sets of the hub, for benchmarks that are lmms-eval's own; see `data.root`.
        frames: of every video; None for as many as the model takes.
        skip_broken: go on without questions whose pictures cannot be read; they count as wrong.
        out: folder that holds one folder per run.
        baseline: whether the unpruned model is run too, unless its identical record exists.
    """

    model: str = "pocket"
    source: str | None = None
    method: str = "none"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ratio: float = 0.0
    stages: tuple[Stage, ...] | None = None
    positions: Literal["keep", "renumber"] | None = None
    suite: str = "pocket"
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    batch_size: int = 64
    reuse: bool = True
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: int = 0
    data_root: Path | None = None
    frames: int | None = None
    skip_broken: bool = False
    out: Path = Path("results/runs")
    baseline: bool = True

    def validate(self) -> None:
        """Check each value against its range or table.

        Raises:
            ConfigError: what is wrong and what would be right.
        """
        for name in _CHECKS:
            check(name, getattr(self, name))
        if self.method == "none" and self.ratio > 0:
            raise ConfigError(f"method 'none' removes nothing; leave --ratio {self.ratio:g} out or name a --method")

    @property
    def method_name(self) -> str:
        """What tables and folders call the method."""
        return shown(self.method)

    @property
    def label(self) -> str:
        """The method with whatever differs from its defaults: "meteor[encode,fuse]", "fastv(layer=3)"."""
        stages = f"[{','.join(self.stages)}]" if self.stages else ""
        extra = [f"{k}={v}" for k, v in self.parameters.items()]
        extra += [f"positions={self.positions}"] if self.positions else []
        return (
            "unpruned" if self.method == "none" else self.method_name + stages + (f"({', '.join(extra)})" * bool(extra))
        )

    def unpruned(self) -> RunConfig:
        """The run that this one is compared with: the model the user named, nothing pruned, nothing drawn."""
        return replace(self, method="none", parameters={}, ratio=0.0, stages=None, positions=None, seed=0)


@dataclass(frozen=True)
class Setting:
    """A method at a ratio with what differs from its defaults, where many are listed; fields as in `RunConfig`."""

    method: str
    ratio: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Stage, ...] | None = None
    positions: Literal["keep", "renumber"] | None = None

    @property
    def label(self) -> str:
        """`RunConfig.label` and the ratio."""
        run = RunConfig(**{f.name: getattr(self, f.name) for f in fields(Setting)})
        return run.label if run.method == "none" else f"{run.label} {run.ratio:g}"


def _model(name: str) -> None:
    if name in MODELS.names() or not is_location(name):
        _in_table(MODELS.kind, name, MODELS.names())
    else:
        check_model(name)


def _method(name: str) -> None:
    for part in parts_of(name):
        file = MethodFile.of(part)
        if file is None:
            _in_table(METHODS.kind, part, METHODS.names())
        else:
            file.check()


def _suite(name: str) -> None:
    from meteor_bench.data.suites import suite_names

    _in_table("suite", name, suite_names())


def _tasks(names: tuple[str, ...]) -> None:
    from meteor_bench.data.suites import task_names

    known = task_names()
    for name in names:
        _in_table("task", name, known)


def _ratio(ratio: float) -> None:
    from meteor_bench.core.budget import TokenBudget

    TokenBudget.from_ratio(ratio)


def _device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ConfigError(f"unknown device '{device}'; one of auto, cpu, mps, cuda, cuda:<number>")


def _data_root(root: Path | None) -> None:
    try:
        there = root is None or root.is_dir()
    except OSError as error:  # a name longer than any file's
        raise ConfigError(f"data_root: {error.strerror}: {root}") from None
    if not there:
        raise ConfigError(f"data_root: {root} is no folder")


def _positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"{name} must be 1 or more, not {value}")


def _seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be in [0, 2^63), not {seed}")


def _in_table(kind: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise UnknownNameError(kind, name, known)


_CHECKS: dict[str, Any] = {
    "model": _model,
    "method": _method,
    "ratio": _ratio,
    "suite": _suite,
    "tasks": _tasks,
    "limit": lambda value: _positive("limit", value),
    "batch_size": lambda value: _positive("batch_size", value),
    "device": _device,
    "data_root": _data_root,
    "frames": lambda value: _positive("frames", value),
    "seed": _seed,
}


def check(name: str, value: Any) -> None:
    """Check one value of a `RunConfig` against its range or table.

    Raises:
        ConfigError: what is wrong and what would be right.
    """
    if name in _CHECKS:
        _CHECKS[name](value)


def load(file: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """A run from a YAML file and flags; flags win, and their parameters are merged over the file's one by one.

    Args:
        file: a YAML file, None for flags alone.
        flags: values of the flags that the user gave, by the names of `RunConfig`.

    Raises:
        ConfigError: naming the flag, or the file with line and key.
    """
    values = {} if file is None else read_file(file, RunConfig, check, ("tasks", "stages"))
    given = dict(flags)
    if "parameters" in given:
        given["parameters"] = {**values.get("parameters", {}), **given["parameters"]}
    given = fit_flags(given, RunConfig)
    config = RunConfig(**{**values, **given})
    config.validate()
    if config.method != "none" and "ratio" not in {**values, **given}:
        raise ConfigError(f"method '{config.method}' needs --ratio, the fraction of the visual tokens to remove")
    return config
