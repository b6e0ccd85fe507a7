"""What a model is, as data: a row of the model table, or a checkpoint's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from meteor_bench.models.base import VLM

__all__ = ["FusionKind", "ModelCard"]

FusionKind = Literal["independent", "shared"]


@dataclass(frozen=True)
class ModelCard:
    """A row of `list models`: what a model is, without building it.

    Attributes:
        build: (device, dtype, source) -> VLM; ``source`` is a checkpoint's folder, None for the shipped weights.
        variants: fusion kind -> name of the model that offers it, for methods that prefer one.
        weights: folder or hub id of the weights, None where they are shipped, or not published.
        published: whether there are weights that ``build`` could read.
        random: (device, dtype) -> VLM of the real size with random weights; the device may be "meta". Needs no file
            but those of the package.
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
