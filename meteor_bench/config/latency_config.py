"""What `meteor-bench latency` times: a `LatencyConfig` from flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from meteor_bench.config import run_config as of_run
from meteor_bench.config.spec import Flag
from meteor_bench.config.yaml_settings import fit_flags
from meteor_bench.core.settings import Range

__all__ = ["TRY", "LatencyConfig", "load"]

TRY: Mapping[str, Any] = {"methods": ("divprune", "evoprune"), "passes": 2, "warmup": 1}
"""What is timed of the first layers of a model, where nothing else is said: minutes on two cores."""


@dataclass(frozen=True)
class LatencyConfig:
    """Methods to be timed at ratios and batch sizes, in one process.

    Attributes:
        methods: names, or "all" for the whole table.
        ratios: fractions of the visual tokens to remove.
        match: what the ratios are of; see `core.match`.
        batches: batch sizes.
        frames: pictures of a sample, 1 for an image.
        new_tokens: tokens generated, at least 2.
        passes: timed passes of each contender.
        warmup: passes before them that are thrown away.
        seconds: no new round is begun after that time; None for no limit.
        graphs: "cuda": also time every contender captured as CUDA graphs, one from the pixels to the first logits and
            one that decodes a token (where there is no GPU, the same passes and steps, captured by nobody).
        count_launches: only count the kernels and waits of a pass on a pretended GPU.
        random_weights: time the model at its real size without its weights.
        limit_layers: so timed, only the first layers of the language model, for a try; None: all. What is not said is
            then small, too: `TRY`, and pictures of half the model's own side.
        pixels: side of the pictures that are timed with random weights; None for the model's own.
        selection: time only what choosing costs, on ``tokens`` visual tokens.
        out: folder of the records; what is finished there is not timed again. None for a new one.
        model, source, device, dtype, seed: as in `RunConfig`.
    """

    model: of_run.Model = "pocket"
    source: of_run.Source = None
    methods: Annotated[
        tuple[str, ...], Flag("Rows of `list methods`, separated by commas, or all.", completes="methods,all")
    ] = ("all",)
    ratios: Annotated[
        tuple[of_run.Ratio, ...],
        Flag("Fractions of the visual tokens to remove, separated by commas.", name="--ratio"),
    ] = (0.76,)
    match: of_run.Match = "tokens"
    batches: Annotated[tuple[of_run.Positive, ...], Flag("Batch sizes, separated by commas.", name="--batch")] = (1,)
    frames: Annotated[of_run.Positive, Flag("Pictures of a sample; above 1 a clip.")] = 1
    new_tokens: Annotated[int, Flag("Tokens generated, end tokens ignored."), Range(least=2)] = 8
    passes: Annotated[of_run.Positive, Flag("Timed passes of each method.")] = 20
    warmup: Annotated[of_run.Positive, Flag("Passes before them that are thrown away.")] = 3
    seconds: Annotated[float | None, Flag("Begin no new round after that time, per cell."), Range(above=0)] = None
    device: of_run.Device = "auto"
    dtype: of_run.Dtype = "auto"
    seed: of_run.Seed = 0
    random_weights: Annotated[bool, Flag("The model at its real size, without its weights.")] = False
    limit_layers: Annotated[
        of_run.Positive | None,
        Flag(
            "For --random-weights: only the first layers of the language model. For a try: unless you say them, two "
            "methods, 2 passes after 1, pictures of half the side."
        ),
    ] = None
    pixels: Annotated[
        of_run.Positive | None,
        Flag("For --random-weights: side of a picture in pixels.", default="the model's own"),
    ] = None
    selection: Annotated[bool, Flag("Only what choosing costs, beside a ViT-L that encodes as many tokens.")] = False
    graphs: Annotated[
        Literal["none", "cuda"],
        Flag("cuda: also time each contender captured: pixels to first logits, and each token over a fixed cache."),
    ] = "none"
    count_launches: Annotated[bool, Flag("Only count what a GPU would be sent, without one.")] = False
    tokens: Annotated[of_run.Positive, Flag("For --selection: visual tokens of a picture.")] = 1024
    out: Annotated[
        Path | None,
        Flag("Folder; what is finished there is kept.", default="results/runs/latency/<time>-<model>"),
    ] = None


def load(flags: Mapping[str, Any]) -> LatencyConfig:
    """What to time, from the flags that the user gave; lists hold each value once.

    Raises:
        ConfigError: naming the flag.
    """
    given: dict[str, Any] = fit_flags(flags, LatencyConfig)
    once: dict[str, Any] = {k: tuple(dict.fromkeys(v)) if isinstance(v, tuple) else v for k, v in given.items()}
    return LatencyConfig(**{**(TRY if once.get("limit_layers") is not None else {}), **once})
