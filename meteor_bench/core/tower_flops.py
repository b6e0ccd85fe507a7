"""What an encoder costs that nothing prunes."""

from __future__ import annotations

import torch

from meteor_bench.core.model import VisionTower
from meteor_bench.core.tokens import Tokens

__all__ = ["tower_flops"]


def tower_flops(tower: VisionTower, height: int, width: int) -> int:
    """FLOPs of an encoder on one unpruned row (image, frame or tile) of that many pixels."""
    grid = tower.grid(height, width)
    n = grid.n + tower.specials
    where = tower.where(Tokens.dense(torch.empty(1, n, 1), grid, specials=tower.specials))
    total = tower.flops_embed(height, width) + tower.flops_finish(grid.n)
    for block in range(tower.depth):
        pairs = tower.pairs(block, where)
        total += tower.flops_block(n, n, None if pairs is None else int(pairs[0]))
    return total
