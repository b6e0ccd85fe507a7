"""What a latency run is asked for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from meteor_bench.config.run_config import RunConfig
from meteor_bench.config.yaml_settings import names
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.registry import METHODS
from meteor_bench.runs.latency.records import slug
from meteor_bench.runs.patches.command import settings

__all__ = ["ALL", "Settings", "configs", "new_folder", "numbers"]

T = TypeVar("T", int, float)
ALL = "all"


@dataclass(frozen=True)
class Settings:
    """What to time.

    Attributes:
        configs: every method at every ratio.
        skip: leave a method out that this model or budget cannot have, with the reason, instead of failing.
        batches: batch sizes.
        frames: pictures of a sample, 1 for an image.
        new_tokens: tokens generated, at least 2.
        passes: timed passes of each contender.
        warmup: passes before them that are thrown away.
        seconds: no new round is begun after that time; None for no limit.
        random_weights: time the model at its real size without its weights.
        out: folder of the records; what is finished there is not timed again.
    """

    configs: Sequence[RunConfig]
    out: Path
    skip: bool = False
    batches: tuple[int, ...] = (1,)
    frames: int = 1
    new_tokens: int = 8
    passes: int = 20
    warmup: int = 3
    seconds: float | None = None
    random_weights: bool = False

    def __post_init__(self) -> None:
        least = {"frames": 1, "new_tokens": 2, "passes": 1, "warmup": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag} {getattr(self, name)} is too small; take at least {low}")
        for batch in self.batches:
            if batch < 1:
                raise ConfigError(f"--batch {batch} is too small; take at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"--seconds {self.seconds:g} must be positive")

    @property
    def plain(self) -> RunConfig:
        """The unpruned model's settings."""
        return self.configs[0].unpruned()

    @property
    def ratios(self) -> list[float]:
        """Each once, in the order given."""
        return list(dict.fromkeys(config.ratio for config in self.configs))


def numbers(flag: str, text: str, kind: type[T]) -> list[T]:
    """The numbers of a comma list, each once.

    Raises:
        ConfigError: something else stands there.
    """
    found = []
    for part in names(text):
        try:
            found.append(kind(part))
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise ConfigError(f"{flag} '{text}' is no list of {what} separated by commas; '{part}' is wrong") from None
    if not found:
        raise ConfigError(f"{flag} is empty")
    return list(dict.fromkeys(found))


def configs(
    methods: str,
    ratios: Sequence[float],
    parameters: Sequence[str],
    shared: Mapping[str, Any],
    *,
    untrained: bool = False,
) -> list[RunConfig]:
    """Every method at every ratio; `none` is always timed and need not be named.

    Args:
        methods: a comma list, or "all" for the whole table.
        parameters: "method:name=value".
        shared: other fields of `RunConfig`.
        untrained: methods that bring a trained module take one with random weights (their parameter ``weights``).

    Raises:
        ConfigError: something does not exist.
    """
    listed = METHODS.names() if methods.strip() == ALL else names(methods)
    chosen = [name for name in listed if name != "none"]
    if not chosen:
        raise ConfigError("--methods names no method; say all, or some of `meteor-bench list methods`")
    given = {name: value for name, value in shared.items() if value is not None}
    if untrained:
        drawn = [
            name for name in chosen if name in METHODS.names() and "trained pruner" in METHODS.make(name).fact.needs
        ]
        parameters = [*(f"{name}:weights=random" for name in drawn), *parameters]
    return settings(chosen, ratios, parameters, given)


def new_folder(name: str) -> Path:
    """Where the records of a call go that names no folder."""
    return Path("results/runs/latency") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{slug(name)}"
