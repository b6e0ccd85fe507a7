"""What is chosen from, and what for: a `ChooseConfig` from flags; its fields are those of `RunConfig`, and the goal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from meteor_bench.config import run_config as of_run
from meteor_bench.config.spec import Flag, spelled
from meteor_bench.config.yaml_settings import fit_flags
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.settings import Range

__all__ = ["GOALS", "ChooseConfig", "load"]

GOALS = ("max_drop", "min_speedup", "tokens")


@dataclass(frozen=True)
class ChooseConfig:
    """A choice, as the user asked for it.

    Attributes:
        max_drop: points of 100 that may be lost: the upper end of the drop's 95 % interval. Cheapest in FLOPs wins.
        min_speedup: of end-to-end time at batch 1: the lower end of its 95 % interval. The smallest drop wins.
        tokens: visual tokens left after the last prune. The smallest drop wins.
        methods: candidates by name; none for every training-free method with an exact budget that runs on the model.
        ratios: tried with each method; ``tokens`` has one ratio of its own.
        the rest: as in `RunConfig`.
    """

    max_drop: Annotated[
        float | None, Flag("Points that may be lost, at the end of the 95 % interval.", default=""), Range(least=0)
    ] = None
    min_speedup: Annotated[
        float | None, Flag("End-to-end speed-up wanted, at the end of its 95 % interval."), Range(above=1, most=1000)
    ] = None
    tokens: Annotated[of_run.Positive | None, Flag("Visual tokens that may be left.")] = None
    methods: Annotated[
        tuple[of_run.Method, ...],
        Flag(
            "Candidates, separated by commas.",
            name="--method",
            default="every training-free method with an exact budget",
            completes="methods",
        ),
    ] = ()
    ratios: Annotated[tuple[of_run.Ratio, ...], Flag("Tried with each method.")] = (0.25, 0.5, 0.667, 0.76, 0.85, 0.889)
    model: of_run.Model = "pocket"
    source: of_run.Source = None
    suite: of_run.Suite = "ci"
    tasks: of_run.Tasks = ()
    limit: of_run.Limit = None
    batch_size: of_run.BatchSize = 64
    deterministic: of_run.Deterministic = False
    device: of_run.Device = "auto"
    dtype: of_run.Dtype = "auto"
    seed: of_run.Seed = 0
    data_root: of_run.DataRoot = None
    frames: of_run.Frames = None
    out: of_run.Out = Path("results/runs")

    def validate(self) -> None:
        """Check what no single flag shows.

        Raises:
            ConfigError: what is wrong and what would be right.
        """
        given = [name for name in GOALS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(spelled(ChooseConfig, name) for name in given) or "none"
            raise ConfigError(f"say what to choose for: one of --max-drop, --min-speedup and --tokens; found {found}")
        if not self.ratios or 0.0 in self.ratios:
            raise ConfigError("--ratios: name fractions above 0; the unpruned model is run in any case")
        if "none" in self.methods:
            raise ConfigError("--method none prunes nothing; the unpruned model is run in any case")


def load(flags: Mapping[str, Any]) -> ChooseConfig:
    """A choice from flags.

    Raises:
        ConfigError: naming the flag.
    """
    config = ChooseConfig(**fit_flags(flags, ChooseConfig))
    config.validate()
    return config
