"""Fusions and visual blocks that several families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from meteor_bench.core import flops
from meteor_bench.core.host import upload
from meteor_bench.core.model import Decoder, Fusion
from meteor_bench.core.tokens import Block, Grid, Tokens

__all__ = ["Independent", "OneProjector", "ShuffleFusion", "enclosed", "linear_flops", "separated"]


def linear_flops(module: nn.Module, tokens: int) -> int:
    """FLOPs of all linear layers of a module on that many tokens."""
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return sum(flops.linear(tokens, m.in_features, m.out_features) for m in layers)


class Independent(Fusion):
    """A fusion without a common grid: each tower's tokens are projected by themselves."""

    kind = "independent"

    def common(self, grids: Mapping[str, Grid]) -> Grid:
        raise TypeError("an independent fusion has no common grid")

    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        raise TypeError("an independent fusion has no common grid")

    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        raise TypeError("an independent fusion has no shared projector")


class OneProjector(Independent):
    """A module applied to each token of the only tower."""

    def __init__(self, projector: nn.Module) -> None:
        super().__init__()
        self.projector = projector

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        return tokens.with_x(self.projector(tokens.x))

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(linear_flops(self.projector, n) for n in counts.values())


class ShuffleFusion(Fusion):
    """Square neighbourhoods of patches side by side in channels, then one projector.

    Args:
        shuffle: the library's pixel shuffle: [R, h, w, D] -> [R, h / side, w / side, D · side²].
        side: of a neighbourhood.
    """

    kind = "shared"

    def __init__(self, projector: nn.Module, tower: str, shuffle: Callable[[Tensor], Tensor], side: int) -> None:
        super().__init__()
        self.projector, self.tower, self.shuffle, self.side = projector, tower, shuffle, side

    def common(self, grids: Mapping[str, Grid]) -> Grid:
        t, h, w = grids[self.tower]
        return Grid(t, h // self.side, w // self.side)

    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        x, (_, h, w) = towers[self.tower], grids[self.tower]
        return self.shuffle(x.reshape(-1, h, w, x.shape[-1])).reshape(len(x), self.common(grids).n, -1)

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        return tokens.with_x(self.projector(tokens.x))

    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        return {self.tower: self.projector(aligned)}

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(linear_flops(self.projector, n) for n in counts.values())


def separated(decoder: Decoder, images: Sequence[int], between: Sequence[Sequence[int]]) -> Block | None:
    """A block of images one after another with text between them; None where that is nothing but the images.

    Args:
        images: number of visual tokens of each image.
        between: ids between each two.
    """
    if not any(between):
        return None
    return enclosed(decoder, images, [(), *between, ()])


def enclosed(decoder: Decoder, images: Sequence[int], texts: Sequence[Sequence[int]]) -> Block:
    """A block of images with text around them.

    Args:
        images: number of visual tokens of each image.
        texts: ids before each image, and behind the last.
    """
    slots: list[int] = []
    special: list[int] = []
    at = 0
    for text, tokens in zip(texts, (*images, 0), strict=True):
        special += range(at, at + len(text))
        slots += range(at + len(text), at + len(text) + tokens)
        at += len(text) + tokens
    device = next(decoder.parameters()).device
    ids = upload([i for text in texts for i in text], device, torch.long)
    places = [upload(part, device, torch.long) for part in (slots, special)]
    return Block(places[0], decoder.embed(ids), places[1])
