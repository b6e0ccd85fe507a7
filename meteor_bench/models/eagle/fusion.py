"""EAGLE's fusion: every encoder's map on one grid, joined along channels, one MLP into the language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle

from meteor_bench.core import flops
from meteor_bench.core.model import Fusion
from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["EagleFusion"]


class EagleFusion(Fusion):
    """Channel concatenation in the order of the checkpoint's encoders.

    Args:
        projector: Linear, GELU, Linear.
        widths: encoder -> channels it contributes, in order.
        side: of the common grid.
        folded: encoders whose map has 2 x 2 cells to a cell of the common grid, which become channels.
    """

    kind = "shared"

    def __init__(self, projector: nn.Sequential, widths: Mapping[str, int], side: int, folded: frozenset[str]) -> None:
        super().__init__()
        self.projector, self.widths, self.side, self.folded = projector, dict(widths), side, folded

    def common(self, grids: Mapping[str, Grid]) -> Grid:
        return Grid(next(iter(grids.values())).t, self.side, self.side)

    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        parts = []
        for name in self.widths:
            x, grid = towers[name], grids[name]
            planes = x.reshape(-1, grid.h, grid.w, x.shape[-1]).permute(0, 3, 1, 2)  # [B·t, D, h, w]
            if name in self.folded:
                planes = pixel_unshuffle(planes, 2)  # channel c·4 + dy·2 + dx
            if tuple(planes.shape[-2:]) != (self.side, self.side):
                resized = interpolate(planes.float(), size=(self.side, self.side), mode="bilinear", align_corners=True)
                planes = resized.to(x.dtype)
            parts.append(planes.permute(0, 2, 3, 1).reshape(len(x), grid.t * self.side**2, -1))
        return torch.cat(parts, -1)

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        return tokens.with_x(self.projector(tokens.x))

    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        weight = cast("nn.Linear", self.projector[0]).weight
        widths = list(self.widths.values())
        pairs = zip(torch.split(aligned, widths, -1), torch.split(weight, widths, 1), strict=True)
        return {name: x @ part.T for name, (x, part) in zip(self.widths, pairs, strict=True)}

    def flops(self, counts: Mapping[str, int]) -> int:
        first, last = cast("nn.Linear", self.projector[0]), cast("nn.Linear", self.projector[2])
        widths = (first.in_features, first.out_features, last.out_features)
        return sum(flops.mlp(n, widths) for n in counts.values())
