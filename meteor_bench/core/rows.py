"""What is done to each row of tokens again and again: scaled to length 1, ranked, chosen. A kernel or two on a GPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.host import places

__all__ = ["RANKED", "best", "foremost", "ordered", "ranks", "to_mean", "unit"]

KERNELS = "meteor_bench.core.rows_triton"
RANKED = 8192  # scores of a row that are compared each with each on a GPU; more are sorted


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1, eps=1e-12)


def _to_mean(x: Tensor) -> Tensor:
    x = x.float()
    mean = x.sum(1) / max(1, x.shape[1])
    return torch.einsum("bnd,bd->bn", _unit(x), _unit(mean))


def _ranks(score: Tensor) -> Tensor:
    order = score.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, places(score.shape[1], score.device).expand_as(order))


def _ordered(key: Tensor, falling: bool) -> Tensor:
    return key.argsort(dim=1, descending=falling, stable=True)


def _best(score: Tensor, allowed: Tensor | None, each: Tensor | None, most: int) -> Tensor:
    score = score.float() if allowed is None else score.float().masked_fill(~allowed, -torch.inf)
    order = score.argsort(dim=1, descending=True, stable=True)
    kept = torch.zeros(score.shape, dtype=torch.bool, device=score.device)
    if each is None:
        kept.scatter_(1, order[:, : max(0, most)], True)
    else:
        kept.scatter_(1, order, places(score.shape[1], score.device) < each[:, None])
    return kept if allowed is None else kept.logical_and_(allowed)


def _foremost(score: Tensor, window: Tensor, left: Tensor) -> Tensor:
    by_score = score.argsort(dim=1, descending=True, stable=True)
    sorted_window, second = window.gather(1, by_score).sort(dim=1, stable=True)
    order = by_score.gather(1, second)  # by window, then by score
    own = places(score.shape[1], score.device).expand_as(window)
    # Where a window begins in that order: as many tokens are in those before it.
    begins = torch.searchsorted(sorted_window, sorted_window)
    chosen = own - begins < left.gather(1, sorted_window)
    return torch.zeros_like(chosen).scatter_(1, order, chosen)


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _unit_trial() -> tuple[Tensor]:
    return (_drawn(2, 5, 70),)


def _ranks_trial() -> tuple[Tensor]:
    return (_drawn(2, 70).round(decimals=1),)  # with equal ones


def _ordered_trial() -> tuple[Tensor, bool]:
    return _drawn(2, 70).round(decimals=1), True


def _best_trial() -> tuple[Tensor, Tensor, Tensor, int]:
    return _drawn(2, 70).round(decimals=1), _drawn(2, 70) > 0, torch.tensor([12, 60]), 0


def _foremost_trial() -> tuple[Tensor, Tensor, Tensor]:
    window = torch.tensor([[0, 2, 1, 2, 0, 2, 1], [1, 1, 0, 0, 0, 2, 2]])
    return _drawn(2, 7).round(decimals=1), window, torch.tensor([[1, 1, 2], [2, 1, 0]])


unit = Fused(_unit, "(Tensor x) -> Tensor", KERNELS, _unit_trial)
"""Rows of [..., D] scaled to length 1, in float32; a zero row stays zero."""

to_mean = Fused(_to_mean, "(Tensor x) -> Tensor", KERNELS, _unit_trial)
"""[B, N] float32, the cosine of each token of [B, N, D] to the mean token of its row."""

ranks = Fused(_ranks, "(Tensor score) -> Tensor", KERNELS, _ranks_trial)
"""[B, N] long, the place of each of the scores [B, N] in falling order, ties to the lower index."""

ordered = Fused(_ordered, "(Tensor key, bool falling) -> Tensor", KERNELS, _ordered_trial)
"""[B, N] long, what sorts keys [B, N] of each row (numbers or bool), equal ones in the order in which they stand."""

best = Fused(_best, "(Tensor score, Tensor? allowed, Tensor? each, SymInt most) -> Tensor", KERNELS, _best_trial)
"""[B, N] bool, the highest scores of each row, ties to the lower index.

Args:
    score: [B, N]; allowed: [B, N] bool, who may be among them, None: all; each: [B] long, how many of each row, None:
        ``most`` of all.
"""

foremost = Fused(_foremost, "(Tensor score, Tensor window, Tensor left) -> Tensor", KERNELS, _foremost_trial)
"""[B, N] bool, whether a token is among the highest scores of its window, ties to the lower index.

Args:
    score: [B, N] float32; window: [B, N] long, the window that a token is in; left: [B, W] long, how many each keeps.
"""
