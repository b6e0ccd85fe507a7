"""A model, and the row of the table that says what it is. What its family names can be imported from here.

What the engine asks of a model's parts stands with them: `core.vision_tower`, `core.fusion`, `core.decoder` and
`core.processing`. Adapters compose library modules behind those. A model is described as data (`ModelCard`) and built
lazily. Nothing here knows about pruning methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from meteor_bench.core.decoder import Decoder, KVCache
from meteor_bench.core.fusion import Fusion, FusionKind
from meteor_bench.core.processing import PLAIN, Clip, Look, Processor, Prompt, Scene
from meteor_bench.core.tokens import Block, Grid
from meteor_bench.core.vision_tower import VisionTower

__all__ = [
    "PLAIN",
    "VLM",
    "Clip",
    "Decoder",
    "Fusion",
    "FusionKind",
    "KVCache",
    "Look",
    "ModelCard",
    "Processor",
    "Prompt",
    "Scene",
    "VisionTower",
]


@dataclass
class VLM:
    """A plain container.

    Attributes:
        name: row of the model table.
        towers: in the order of the model's configuration.
        reference: `grid` of a sample -> N, the visual tokens that the unpruned reference model feeds its LLM.
        reference_fusion: where that is another model, its fusion, of which only the FLOPs are asked; None: this one's.
        made_from: where parameters were pruned, the model that they were pruned of, with the same grids and a shared
            fusion but no storage: only its FLOPs are asked, which ratios are of.
        native: height and width in pixels of an image as the processor delivers it.
        digest: hash of the checkpoint's bytes, for records.
        folder: of the checkpoint; a method's trained parts for this model lie in folders of their own in there.
        resizable: whether the encoders also take smaller images than the processor delivers, with smaller grids.
        block: grid of the visual tokens -> how they stand in the language model; None in either place: one
            after another.
        scenes: scene -> the fields (`towers`, `fusion`, `reference`, `block`) that differ there from those of a single
            image; None where none does.
    """

    name: str
    towers: dict[str, VisionTower]
    fusion: Fusion
    decoder: Decoder
    processor: Processor
    reference: Callable[[Grid], int]
    native: tuple[int, int]
    reference_fusion: Fusion | None = None
    made_from: VLM | None = None
    digest: str = ""
    folder: Path | None = None
    resizable: bool = True
    block: Callable[[Grid], Block | None] | None = None
    scenes: Callable[[Scene], Mapping[str, Any]] | None = None

    def at(self, scene: Scene) -> VLM:
        """The model as it is for samples of a scene."""
        return self if self.scenes is None else replace(self, **self.scenes(scene))

    @property
    def lead(self) -> str:
        """The tower with the most tokens on an image (the first of equals)."""
        return max(self.towers, key=lambda name: self.towers[name].grid(*self.native).n)

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """The lead tower's grid of a sample of that many frames and pixels."""
        return Grid(frames, *self.towers[self.lead].grid(height, width)[1:])

    @property
    def device(self) -> torch.device:
        """Where the decoder lives."""
        return next(self.decoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The decoder's dtype."""
        return next(self.decoder.parameters()).dtype

    def modules(self) -> dict[str, nn.Module]:
        """Every module by name, for digests and laws."""
        return {**{f"towers.{k}": t for k, t in self.towers.items()}, "fusion": self.fusion, "decoder": self.decoder}


@dataclass(frozen=True)
class ModelCard:
    """A row of `list models`: what a model is, without building it.

    Attributes:
        build: (device, dtype, source) -> VLM; ``source`` is a checkpoint's folder, None for the shipped weights.
        variants: what a method may prefer (`Pruner.prefers`) -> name of the model that offers it.
        weights: folder or hub id of the weights, None where they are shipped, or not published.
        published: whether there are weights that ``build`` could read.
        random: (device, dtype) -> VLM of the real size with random weights; the device may be "meta". Needs no file
            but those of the package.
        shallow: number of layers -> the same with the first of its language model alone, for random weights; None where
            the family cannot say it.
    """

    name: str
    fusion: FusionKind
    towers: Mapping[str, str]
    llm: str
    tokens: int
    licence: str
    build: Callable[..., VLM]
    variants: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    weights: str | None = None
    published: bool = True
    random: Callable[[str, torch.dtype], VLM] | None = None
    shallow: Callable[[int], ModelCard] | None = None
