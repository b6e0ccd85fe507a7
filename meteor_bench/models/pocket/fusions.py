"""The pocket models' two fusions in the engine's terms; the natural models have them as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from meteor_bench.core import flops
from meteor_bench.core.model import Fusion
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.fusions import Independent
from meteor_bench.models.pocket.modules import IndependentFusion, PocketConfig, SharedFusion
from meteor_bench.models.positions import add_positions, resize_table

__all__ = ["PocketIndependent", "PocketShared"]


class PocketShared(Fusion):
    """Channel concatenation on one grid in the order of the norms, one projector, one position table.

    The grid is the finest of the towers'; of a clip, where the configuration pools, one of its averaged squares.
    """

    kind = "shared"

    def __init__(self, modules: SharedFusion, config: PocketConfig) -> None:
        super().__init__()
        self.modules_, self.config = modules, config

    def common(self, grids: Mapping[str, Grid]) -> Grid:
        finest = max(grids.values(), key=lambda grid: grid.n)
        if finest.t == 1:
            return finest
        return Grid(finest.t, *(max(side // self.config.pool, 1) for side in finest[1:]))

    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        common = self.common(grids)
        parts = []
        for name, norm in self.modules_.norm.items():
            x, grid = norm(towers[name]), grids[name]
            if grid != common:
                planes = x.unflatten(1, grid).flatten(0, 1).permute(0, 3, 1, 2)  # [B·t, D, h, w]
                if grid.n > common.n:
                    planes = adaptive_avg_pool2d(planes, (common.h, common.w))
                else:
                    planes = interpolate(planes, size=(common.h, common.w), mode="nearest")
                x = planes.permute(0, 2, 3, 1).reshape(x.shape[0], common.n, -1)
            parts.append(x)
        return torch.cat(parts, -1)

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        return tokens.with_x(self.modules_.mlp(tokens.x))

    def place(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        side, pool = self.config.grids["a"], self.config.pool
        frames = tokens.grid.t
        if pool > 1 and frames > 1:
            table = self.modules_.long_positions(frames).flatten(0, 1)
            native = Grid(frames, side // 2 // pool, side // 2 // pool)
        elif frames > 1:
            table, native = _table(self.modules_.image_positions, self.modules_.video_positions, side, tokens.grid)
        else:
            table, native = self.modules_.image_positions, Grid(1, side, side)
        return add_positions(tokens, resize_table(table, native, tokens.grid))

    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        first, norms = cast("nn.Linear", self.modules_.mlp[0]), self.modules_.norm
        widths = [cast("nn.LayerNorm", norm).normalized_shape[0] for norm in norms.values()]
        parts = zip(norms, torch.split(aligned, widths, -1), torch.split(first.weight, widths, 1), strict=True)
        return {name: x @ weight.T for name, x, weight in parts}

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(_mlp_flops(self.modules_.mlp, n) for n in counts.values())


class PocketIndependent(Independent):
    """One projector and one position table per tower; the sequences stand one after another."""

    def __init__(self, modules: IndependentFusion, sides: Mapping[str, int]) -> None:
        super().__init__()
        self.modules_, self.sides = modules, sides

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        assert tower is not None
        return tokens.with_x(self.modules_.project(tower, tokens.x))

    def place(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        assert tower is not None
        image, video = self.modules_.image_positions[tower], self.modules_.video_positions[tower]
        table, native = _table(image, video, self.sides[tower], tokens.grid)
        return add_positions(tokens, resize_table(table, native, tokens.grid))

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(_mlp_flops(self.modules_.mlp[name], n) for name, n in counts.items())


def _table(image: Tensor, video: Tensor, side: int, grid: Grid) -> tuple[Tensor, Grid]:
    """The position table [n, D] for an image or for the first frames of a clip, and its native grid."""
    if grid.t == 1:
        return image, Grid(1, side, side)
    return video[: grid.t].flatten(0, 1), Grid(grid.t, side // 2, side // 2)


def _mlp_flops(mlp: Any, tokens: int) -> int:
    return flops.mlp(tokens, (mlp[0].in_features, mlp[0].out_features, mlp[2].out_features))
