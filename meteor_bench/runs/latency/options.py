"""What a latency run is asked for, as runs: every method at every ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meteor_bench.config.latency_config import TRY, LatencyConfig
from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.spec import spelled
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.registry import METHODS
from meteor_bench.runs.latency.records import slug
from meteor_bench.runs.patches.command import settings as every

__all__ = ["ALL", "Settings", "configs", "new_folder", "settings"]

ALL = "all"
# Fields that count for nothing where something else than passes is measured, or where they are.
_OF_PASSES = ("new_tokens", "warmup", "seconds", "graphs")
_UNUSED: Mapping[str, Sequence[str]] = {
    "selection": ("model", "source", "random_weights", "frames", *_OF_PASSES),
    "count_launches": ("tokens", "passes", "dtype", *_OF_PASSES, "out"),
    "": ("tokens",),
}
_OF_RUN = ("model", "source", "match", "device", "dtype", "seed")  # fields of `LatencyConfig` that each of its runs has


@dataclass(frozen=True, kw_only=True)
class Settings(LatencyConfig):
    """What to time.

    Attributes:
        configs: every method at every ratio.
        skip: leave a method out that this model or budget cannot have, with the reason, instead of failing.
        out: folder of the records.
    """

    configs: Sequence[RunConfig]
    skip: bool = False
    out: Path

    @property
    def plain(self) -> RunConfig:
        """The unpruned model's settings."""
        return self.configs[0].unpruned()


def settings(config: LatencyConfig, parameters: Sequence[str]) -> Settings:
    """The runs of a config.

    Args:
        parameters: "method:name=value".

    Raises:
        ConfigError: something does not exist.
    """
    if config.selection and config.count_launches:
        raise ConfigError("give one of --selection and --count-launches")
    if (config.selection or config.count_launches) and len(config.ratios) > 1:
        raise ConfigError("--selection and --count-launches take one --ratio")
    if (config.selection or config.count_launches) and config.match != "tokens":
        raise ConfigError("--selection and --count-launches take the ratio of the tokens; leave out --match")
    if config.count_launches and config.frames != 1:
        raise ConfigError("--count-launches counts passes over one picture; leave out --frames")
    if config.limit_layers is not None and (config.selection or config.count_launches or not config.random_weights):
        raise ConfigError("--limit-layers is for timing with --random-weights, where weights of no layer are missing")
    if config.pixels is not None and (config.selection or config.count_launches or not config.random_weights):
        raise ConfigError("--pixels is for timing with --random-weights, whose pictures are noise")
    _check_used(config)
    shared = {name: getattr(config, name) for name in _OF_RUN}
    untrained = config.random_weights or config.selection or config.count_launches
    chosen = configs(config.methods, config.ratios, parameters, shared, untrained=untrained)
    asked = {f.name: getattr(config, f.name) for f in fields(LatencyConfig) if f.name != "out"}
    folder = config.out or new_folder("selection" if config.selection else config.model)
    tried = config.limit_layers is not None and config.methods == TRY["methods"]  # nobody asked for just these
    return Settings(**asked, configs=chosen, skip=tried or config.methods == (ALL,), out=folder)


def _check_used(config: LatencyConfig) -> None:
    """Refuse flags that would be ignored.

    Raises:
        ConfigError: naming them.
    """
    kind = "selection" if config.selection else "count_launches" if config.count_launches else ""
    plain = LatencyConfig()
    unused = [spelled(LatencyConfig, n) for n in _UNUSED[kind] if getattr(config, n) != getattr(plain, n)]
    if config.count_launches and config.device not in ("auto", "cpu"):
        unused.append("--device")
    if unused:
        what = spelled(LatencyConfig, kind) if kind else "a run without --selection"
        raise ConfigError(
            f"{what} makes no use of {', '.join(unused)}; leave {'it' if len(unused) == 1 else 'them'} out"
        )


def configs(
    methods: Sequence[str],
    ratios: Sequence[float],
    parameters: Sequence[str],
    shared: Mapping[str, Any],
    *,
    untrained: bool = False,
) -> list[RunConfig]:
    """Every method at every ratio; `none` is always timed and need not be named.

    Args:
        methods: names, or "all" alone for the whole table.
        parameters: "method:name=value".
        shared: other fields of `RunConfig`.
        untrained: methods that bring a trained module take one with random weights (their parameter ``weights``), and
            what wants a model that it has pruned drops tokens alone (``before``).

    Raises:
        ConfigError: something does not exist.
    """
    listed = METHODS.names() if tuple(methods) == (ALL,) else methods
    chosen = [name for name in listed if name != "none"]
    if not chosen:
        raise ConfigError("--methods names no method; say all, or some of `meteor-bench list methods`")
    given = {name: value for name, value in shared.items() if value is not None}
    if untrained:
        needs = {name: METHODS.make(name).fact.needs for name in chosen if name in METHODS.names()}
        instead = {"trained pruner": "weights=random", "narrowed model": "before=1"}
        drawn = [f"{name}:{instead[need]}" for name in needs for need in needs[name] if need in instead]
        parameters = [*drawn, *parameters]
    return every(chosen, ratios, parameters, given)


def new_folder(name: str) -> Path:
    """Where the records of a call go that names no folder."""
    return Path("results/runs/latency") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{slug(name)}"
