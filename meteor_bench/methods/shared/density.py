"""Density peaks: tokens in dense places, far from any denser one (Rodriguez and Laio 2014; Du et al. 2016)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.fused import Fused
from meteor_bench.core.host import on_device, places
from meteor_bench.core.rows import ranks

__all__ = ["Clusters", "Peaks", "clustered", "density_scores", "peaked"]


class Peaks(NamedTuple):
    """How much of a peak each point is.

    Attributes:
        score: [B, R], -inf for what is not present.
        distance: [B, R, R] Euclidean distances over sqrt(D).
    """

    score: Tensor
    distance: Tensor


class Clusters(NamedTuple):
    """Points around density peaks.

    Attributes:
        peak: [N] bool.
        nearest: [N] long, the peak that each point is nearest to; a peak is its own.
        rank: [N] long, a point's place by falling score: of the peaks the strongest has 0.
    """

    peak: Tensor
    nearest: Tensor
    rank: Tensor


def _peaked(distance: Tensor, present: Tensor | None, each: Tensor | None, most: int) -> Tensor:
    n = distance.shape[1]
    pair = None if present is None else present[:, :, None] & present[:, None]
    near = (distance if pair is None else distance.masked_fill(~pair, torch.inf)).square().sort(2).values  # [B, R, R]
    wanted = places(n, distance.device) < (most if each is None else each[:, None, None])
    parts = max(1, most) if each is None else each.clamp(min=1)[:, None]
    density = torch.exp(-(near.masked_fill(~wanted, 0.0).sum(2) / parts))
    density = density if present is None else density.masked_fill(~present, -1.0)
    far = (distance if pair is None else distance.masked_fill(~pair, 0.0)).flatten(1).amax(1)[:, None, None]
    here, there = density[:, :, None], density[:, None]
    at = places(n, distance.device)
    earlier = at < at[:, None]  # [R, R], True where the other point has the lower index
    # Two nearest neighbours have the same density to the last bit: without a rule for ties both would be peaks.
    denser = (there > here) | ((there == here) & earlier)
    denser = denser if pair is None else denser & pair
    score = torch.where(denser, distance, far.expand_as(distance)).amin(2) * density
    return score if present is None else score.masked_fill(~present, -torch.inf)


def _peaked_trial() -> tuple[Tensor, Tensor, Tensor, int]:
    x = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0))
    return torch.cdist(x, x), x[..., 0] > -1, torch.tensor([4, 7]), 0


peaked = Fused(
    _peaked,
    "(Tensor distance, Tensor? present, Tensor? each, SymInt most) -> Tensor",
    "meteor_bench.methods.shared.density_triton",
    _peaked_trial,
)
"""[B, R] the scores of `density_scores`, -inf for what is not present.

Args:
    distance: [B, R, R] float32; present: [B, R] bool, None: all are; each: [B] long, neighbours of each row, None:
        ``most`` of all.
"""


def density_scores(x: Tensor, present: Tensor | None, k: Tensor) -> Peaks:
    """Scores of density peaks with k-nearest-neighbour densities.

    ``density = exp(-mean of the k smallest squared distances)``, itself included, distances over sqrt(D); a point's
    score is its density times the distance to the nearest denser point (the densest: the largest distance there is).
    Of two equal densities that of the lower index comes first.

    Args:
        x: [B, R, D].
        present: [B, R] bool; None: all are.
        k: [B] long on the CPU, neighbours, at most the points present.
    """
    distance = torch.cdist(x.float(), x.float(), compute_mode="donot_use_mm_for_euclid_dist") / x.shape[2] ** 0.5
    most = int(k.max()) if len(k) else 0
    each = None if bool((k == most).all()) else on_device(k, x.device)
    return Peaks(peaked(distance, present, each, most), distance)


def clustered(x: Tensor, count: int, neighbours: int) -> Clusters:
    """The ``count`` strongest peaks of [N, D], and the one that each point is nearest to.

    Of two equal scores or distances that of the lower index comes first.

    Args:
        count: from 1 to N.
        neighbours: of the densities; where there are fewer points, all.
    """
    n = len(x)
    seen = density_scores(x[None], None, torch.tensor([min(neighbours, n)]))
    rank = ranks(seen.score)[0]
    peak = rank < count
    nearest = seen.distance[0].masked_fill(~peak, torch.inf).argmin(1)
    return Clusters(peak, torch.where(peak, places(n, x.device), nearest), rank)
