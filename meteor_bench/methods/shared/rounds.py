"""A round that thins an order of tokens out: those at even places face those at odd ones, the most alike go.

The torch functions are what the operations are; `rounds_triton` has a kernel for each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.gather import take_rows

__all__ = ["facing", "thinned"]

KERNELS = "meteor_bench.methods.shared.rounds_triton"


def _facing(likeness: Tensor, order: Tensor) -> Tensor:
    even, odd = order[:, 0::2], order[:, 1::2]
    return take_rows(take_rows(likeness, even).mT, odd).amax(1)


def _thinned(alike: Tensor, order: Tensor, drop: int) -> Tensor:
    even, odd = order[:, 0::2], order[:, 1::2]
    ranked = alike.argsort(dim=1, descending=True, stable=True)[:, drop:]
    return torch.cat([even.gather(1, ranked), odd], 1)


def _trial() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(40, generator=draw)[:37] for _ in range(2)])
    return torch.randn(2, 40, 40, generator=draw).round(decimals=1), order


def _thinned_trial() -> tuple[Tensor, Tensor, int]:
    likeness, order = _trial()
    return _facing(likeness, order), order, 5


facing = Fused(_facing, "(Tensor likeness, Tensor order) -> Tensor", KERNELS, _trial)
"""[B, E] float32, how alike each token at an even place is to the most similar one at an odd place.

Args:
    likeness: [B, N, N] float32; order: [B, M] long, tokens, at least two.
"""

thinned = Fused(_thinned, "(Tensor alike, Tensor order, SymInt drop) -> Tensor", KERNELS, _thinned_trial)
"""[B, M - drop] long, the order without the ``drop`` tokens at even places that are most alike.

Those at even places stand first, the most alike ones first (ties in the order in which they stood), behind them the
others as they stood.

Args:
    alike: [B, E] float32; order: [B, M] long.
"""
