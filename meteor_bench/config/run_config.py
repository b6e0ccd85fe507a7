"""What one run is: a `RunConfig` from flags and YAML, checked before anything heavy is imported.

A field is described once, where it stands: its type and range, the table that it must be in, its flag and its help. The
flags of `run`, and those that `sweep`, `show`, `latency`, `check` and `paper` share with it, are made from that, and so
are the keys of a YAML file (``batch_size: 64`` for ``--batch-size 64``); a flag that is given wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from meteor_bench.config.spec import Flag, Known, verify
from meteor_bench.config.yaml_settings import fit_flags, read_file, said
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.match import Measure, of_ratio
from meteor_bench.core.method_file import MethodFile, shown
from meteor_bench.core.registry import METHODS, MODELS, parts_of
from meteor_bench.core.settings import Range
from meteor_bench.models.composed.recipe import is_recipe
from meteor_bench.models.composed.recipe import read as read_recipe
from meteor_bench.models.locate import check_model, is_location
from meteor_bench.utils.annotations import hints
from meteor_bench.utils.structuring import PlainError, fit

__all__ = ["Entry", "RunConfig", "Setting", "Stage", "check", "load"]


def _model(name: str) -> None:
    if name not in MODELS.table() and is_recipe(name):
        read_recipe(Path(name))
    elif name in MODELS.table() or not is_location(name):
        MODELS.target(name)
    else:
        check_model(name)


def _method(name: str) -> None:
    for part in parts_of(name):
        file = MethodFile.of(part)
        if file is None:
            METHODS.target(part)
        else:
            file.check()


def _suite(name: str) -> None:
    from meteor_bench.data.suites import suite_tasks

    suite_tasks(name)


def _tasks(names: tuple[str, ...]) -> None:
    from meteor_bench.data.suites import benchmark

    for name in names:
        benchmark(name)


def _device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ConfigError(f"unknown device '{device}'; one of auto, cpu, mps, cuda, cuda:<number>")


def _data_root(root: Path | None) -> None:
    try:
        there = root is None or root.is_dir()
    except OSError as error:  # a name longer than any file's
        raise ConfigError(f"{root}: {error.strerror}") from None
    if not there:
        raise ConfigError(f"{root} is no folder")


Stage = Literal["encode", "fuse", "decode"]
Positive = Annotated[int, Range(least=1)]
Model = Annotated[
    str,
    Flag("Row of `list models`, file of a composition, folder or hub id.", completes="models", metavar="MODEL"),
    Known(_model),
]
Source = Annotated[str | None, Flag("Folder or hub id of other weights for a row.")]
Method = Annotated[
    str, Flag("Row of `list methods`, or a file.", completes="methods", metavar="METHOD"), Known(_method)
]
Parameters = Annotated[
    Mapping[str, Any], Flag("name=value of the method; may be repeated.", name="--param", metavar="NAME=VALUE")
]
# Of whose tokens: `VLM.reference`. METEOR, with a projector for each encoder, keeps 242 of the 1024 tokens of EAGLE,
# which has one: the convention of the paper's tables, and of every method on such a model here.
Ratio = Annotated[
    float,
    Flag("Fraction of the visual tokens to remove, in [0, 1); on pocket-independent of pocket's 256.", default=""),
    Range(least=0, below=1),
]
Match = Annotated[
    Measure,
    Flag(
        "What the ratio is of: tokens after the last prune, layer-mean (tokens averaged over the language model's "
        "layers), kv (their KV cache), flops (to the first token)."
    ),
]
Stages = Annotated[tuple[Stage, ...] | None, Flag("Stages to run: encode,fuse,decode.", default="all")]
Positions = Annotated[Literal["keep", "renumber"] | None, Flag("keep or renumber.", default="the method's own")]
Suite = Annotated[str, Flag("Benchmarks by suite.", completes="suites"), Known(_suite)]
Tasks = Annotated[tuple[str, ...], Flag("Benchmarks by name, separated by commas.", completes="tasks"), Known(_tasks)]
Limit = Annotated[Positive | None, Flag("Questions per benchmark.", default="all")]
BatchSize = Annotated[Positive, Flag("Questions answered together.")]
Device = Annotated[str, Flag("auto, cpu, cuda, cuda:1, mps.", completes="devices"), Known(_device)]
Dtype = Annotated[Literal["auto", "float32", "bfloat16", "float16"], Flag("auto, float32, bfloat16, float16.")]
Deterministic = Annotated[
    bool, Flag("Answer each question alone: in bfloat16 and float16 too, answers depend on it only; slower.")
]
Seed = Annotated[int, Flag("Of everything that a method draws."), Range(least=0, below=2**63)]
DataRoot = Annotated[
    Path | None, Flag("Data sets of the hub, as DIR/<org>/<repository>.", metavar="DIR"), Known(_data_root)
]
Frames = Annotated[Positive | None, Flag("Of every video.", default="the model's own")]
Out = Annotated[Path, Flag("Folder of runs.")]


@dataclass(frozen=True)
class RunConfig:
    """One run, as the user asked for it. `load` checks it; a record is read without its method being installed.

    Attributes:
        model: row of the model table, a composition's file (.yaml), or a checkpoint's folder or hub id.
        source: folder or hub id of other weights for a row of the table.
        method: row of the method table, a file that holds a method ("./loudest.py", "./loudest.py:Loudest"), or several
            joined by "+" in the order of their stages.
        parameters: hyperparameters of the method that differ from its defaults.
        ratio: fraction of the visual tokens removed, in [0, 1). Of a model with a projector for each encoder
            (pocket-independent) it is the fraction of the tokens of its kin with one (pocket's 256, not its own 576),
            as METEOR's 242 tokens are of EAGLE's 1024: at 0.5 it keeps 128.
        match: what the ratio is of; see `core.match`.
        stages: stages of the method that are switched on; None for all of them.
        positions: what a pruned token's successors do with their position ids; None for the method's own policy.
        suite: row of the suite table; ignored when tasks are given.
        tasks: benchmarks by name.
        limit: documents per benchmark, None for all.
        batch_size: requests answered together.
        reuse: let questions share what depends on their picture alone; without, the answers are the same in float32.
        deterministic: answer each question alone, in a batch of one row, nothing shared. In float32 a batch equals its
            rows run alone; below, the order of sums follows the shape of the batch and answers may flip with it.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" is float32 on a CPU, bfloat16 elsewhere.
        seed: of everything that a method draws.
        data_root: folder with data sets of the hub, for benchmarks that are lmms-eval's own; see `data.root`.
        frames: of every video; None for as many as the model takes.
        skip_broken: go on without questions whose pictures cannot be read; they count as wrong.
        out: folder that holds one folder per run.
        baseline: whether the unpruned model is run too, unless its identical record exists.
    """

    model: Model = "pocket"
    source: Source = None
    method: Method = "none"
    parameters: Parameters = field(default_factory=dict)
    ratio: Ratio = 0.0
    match: Match = "tokens"
    stages: Stages = None
    positions: Positions = None
    suite: Suite = "pocket"
    tasks: Tasks = ()
    limit: Limit = None
    batch_size: BatchSize = 64
    reuse: Annotated[bool, Flag("Share what depends on the picture alone.")] = True
    deterministic: Deterministic = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    seed: Seed = 0
    data_root: DataRoot = None
    frames: Frames = None
    skip_broken: Annotated[bool, Flag("Go on past pictures that cannot be read; exit status 1.")] = False
    out: Out = Path("results/runs")
    baseline: Annotated[bool, Flag("Also run the unpruned model.")] = True

    def validate(self) -> None:
        """Check each value against its type, range and table.

        Raises:
            ConfigError: what is wrong and what would be right.
        """
        for one in fields(self):
            check(one.name, getattr(self, one.name))
        if self.method == "none" and self.ratio > 0:
            raise ConfigError(f"method 'none' removes nothing; leave --ratio {self.ratio:g} out or name a --method")
        if self.method == "none" and self.match != "tokens":
            raise ConfigError(f"method 'none' removes nothing; leave --match {self.match} out or name a --method")

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

    @property
    def share(self) -> str:
        """The ratio, and what it is of where that is not the final tokens: "0.76", "0.76 of FLOPs"."""
        return f"{self.ratio:g}{of_ratio(self.match)}"

    def unpruned(self) -> RunConfig:
        """The run that this one is compared with: the model the user named, nothing pruned, nothing drawn."""
        return replace(
            self, method="none", parameters={}, ratio=0.0, match="tokens", stages=None, positions=None, seed=0
        )


@dataclass(frozen=True)
class Entry:
    """A method with what differs from its defaults, where several are listed; fields as in `RunConfig`."""

    method: Method
    parameters: Parameters = field(default_factory=dict)
    stages: Stages = None
    positions: Positions = None


@dataclass(frozen=True)
class Setting(Entry):
    """The same at a ratio."""

    ratio: Ratio = 0.0
    match: Match = "tokens"

    @property
    def label(self) -> str:
        """`RunConfig.label` and the ratio."""
        run = RunConfig(**{f.name: getattr(self, f.name) for f in fields(Setting)})
        return run.label if run.method == "none" else f"{run.label} {run.share}"


def check(name: str, value: Any) -> None:
    """Check one value of a `RunConfig` against its type, range and table.

    Raises:
        ConfigError: what is wrong and what would be right.
    """
    try:
        annotation = hints(RunConfig)[name]
        verify(fit(value, annotation), annotation)
    except PlainError as error:
        raise said(RunConfig, name, error) from None


def load(file: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """A run from a YAML file and flags; flags win, and their parameters are merged over the file's one by one.

    Args:
        file: a YAML file, None for flags alone.
        flags: values of the flags that the user gave, by the names of `RunConfig`.

    Raises:
        ConfigError: naming the flag, or the file with line and key.
    """
    values = {} if file is None else read_file(file, RunConfig)
    given = dict(flags)
    if "parameters" in given:
        given["parameters"] = {**values.get("parameters", {}), **given["parameters"]}
    given = fit_flags(given, RunConfig)
    config = RunConfig(**{**values, **given})
    config.validate()
    if config.method != "none" and "ratio" not in {**values, **given}:
        raise ConfigError(f"method '{config.method}' needs --ratio, the fraction of the visual tokens to remove")
    return config
