"""An encoder that is run whole on a square picture and hands on the cells of its last map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from meteor_bench.core.tokens import Grid
from meteor_bench.models.composed import parts
from meteor_bench.models.towers import Prepare, WholeTower

__all__ = ["PATCH", "MapPart", "MapTower", "patches"]

PATCH = 14
"""Pixels of a side of the ViT's patches, by which the other encoders of the natural models go."""


def patches(length: int, patch: int = PATCH) -> int:
    """Whole patches along a side of so many pixels, one at least."""
    return max(1, round(length / patch))


@dataclass(frozen=True, kw_only=True)
class MapPart(parts.Tower):
    """Sizes of such an encoder.

    Attributes:
        image_size: a multiple of the stride.
    """

    stride: ClassVar[int]
    channels: ClassVar[int]
    image_size: int

    @property
    def pixels_side(self) -> int:
        return self.image_size

    @property
    def side(self) -> int:
        return self.image_size // self.stride

    @property
    def width(self) -> int:
        return self.channels


P = TypeVar("P", bound=MapPart)


class MapTower(WholeTower, Generic[P]):
    """The encoder; a convolution has no tokens to drop before its output.

    Args:
        name: key of the tower in its model.
        model: its module.
        part: its sizes.
        prepare: makes of the shared pixels [R, 3, H, W] what this encoder sees.
    """

    def __init__(self, name: str, model: Any, part: P, prepare: Prepare) -> None:
        super().__init__()
        self.name, self.model, self.part, self.prepare = name, model, part, prepare
        self.dim = part.width

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, self.part.side, self.part.side)
