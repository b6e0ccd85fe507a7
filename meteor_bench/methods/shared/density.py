"""Density peaks: tokens in dense places, far from any denser one (Rodriguez and Laio 2014; Du et al. 2016)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.host import places, upload
from meteor_bench.core.rows import ranks

__all__ = ["Clusters", "Peaks", "clustered", "density_scores"]


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


def density_scores(x: Tensor, present: Tensor | None, k: Tensor) -> Peaks:
    """Scores of density peaks with k-nearest-neighbour densities.

    ``density = exp(-mean of the k smallest squared distances)``, itself included, distances over sqrt(D); a point's
    score is its density times the distance to the nearest denser point (the densest: the largest distance there is).
    Of two equal densities that of the lower index comes first.

    Args:
        x: [B, R, D].
        present: [B, R] bool; None: all are.
        k: [B] long on the features' device, neighbours, at most the points present.
    """
    n, d = x.shape[1:]
    pair = None if present is None else present[:, :, None] & present[:, None]
    distance = torch.cdist(x.float(), x.float(), compute_mode="donot_use_mm_for_euclid_dist") / d**0.5
    near = (distance if pair is None else distance.masked_fill(~pair, torch.inf)).square().sort(2).values  # [B, R, R]
    wanted = places(n, x.device) < k[:, None]
    density = torch.exp(-(near.masked_fill(~wanted[:, None], 0.0).sum(2) / k.clamp(min=1)[:, None]))
    density = density if present is None else density.masked_fill(~present, -1.0)
    far = (distance if pair is None else distance.masked_fill(~pair, 0.0)).flatten(1).amax(1)[:, None, None]
    here, there = density[:, :, None], density[:, None]
    at = places(n, x.device)
    earlier = at < at[:, None]  # [R, R], True where the other point has the lower index
    # Two nearest neighbours have the same density to the last bit: without a rule for ties both would be peaks.
    denser = (there > here) | ((there == here) & earlier)
    denser = denser if pair is None else denser & pair
    apart = torch.where(denser, distance, far.expand_as(distance)).amin(2)
    score = apart * density
    return Peaks(score if present is None else score.masked_fill(~present, -torch.inf), distance)


def clustered(x: Tensor, count: int, neighbours: int) -> Clusters:
    """The ``count`` strongest peaks of [N, D], and the one that each point is nearest to.

    Of two equal scores or distances that of the lower index comes first.

    Args:
        count: from 1 to N.
        neighbours: of the densities; where there are fewer points, all.
    """
    n = len(x)
    seen = density_scores(x[None], None, upload([min(neighbours, n)], x.device))
    rank = ranks(seen.score)[0]
    peak = rank < count
    nearest = seen.distance[0].masked_fill(~peak, torch.inf).argmin(1)
    return Clusters(peak, torch.where(peak, places(n, x.device), nearest), rank)
