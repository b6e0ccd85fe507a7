"""Batches of tokens that are told apart by their features, and masks over them."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid, Tokens


def batch(rows: int = 3, h: int = 4, w: int = 5, specials: int = 1) -> Tokens:
    torch.manual_seed(rows * 100 + h * 10 + w)
    return Tokens.dense(torch.randn(rows, specials + h * w, 6), Grid(1, h, w), specials)


def random_keep(tokens: Tokens, share: float) -> Tensor:
    keep = torch.rand(tokens.valid.shape) < share
    keep[:, -1] = True
    return keep & tokens.visual
