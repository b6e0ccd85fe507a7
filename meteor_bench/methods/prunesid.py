"""PruneSID: Prune Redundancy, Preserve Essence (ICLR 2026, arXiv 2603.09480), section 3. After the encoder.

Tokens are grouped by the principal component that weighs them most: with the channels as samples and the tokens as
variables, T/4 components of the sigmoid of the features. In each group, in falling order of the class token's
attention, a token is suppressed if one before it that is not suppressed has a cosine above a threshold, T/32 times the
mean cosine of the image's tokens. Survivors come first in their group, suppressed ones behind them, both by attention.
Each group that holds a token gets a place; the others are shared in proportion to the groups' survivors, and the first
of each group stay.

Deviations:

1. The authors' components come from a random low-rank method; here they are exact, of the covariance in float64. Where
   two components weigh a token alike, the larger one has it.
2. Theirs hands on the class token as one of the T; here there is one more patch. The order is spatial; theirs goes
   group by group.
3. Places that no group's survivors fill go, one by one, to the groups with the most survivors that have tokens left;
   the share of a group is at most 5·ceil(T/64) as long as that suffices, as in the authors' code.
4. Several encoders, frames, encoders without a class token or attention, and the block that the attention is read from:
   see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from meteor_bench.core.host import upload
from meteor_bench.core.pruner import Decision, Fact, View
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["PruneSID", "groups_of", "places", "survivors"]


def groups_of(x: Tensor, count: int) -> Tensor:
    """[N] the principal component, 0 the largest, that weighs each token of x [N, D] most."""
    samples = x.double().sigmoid().T  # [D, N]
    samples = samples - samples.mean(0, keepdim=True)
    _, vectors = torch.linalg.eigh(samples.T @ samples)  # ascending
    component: Tensor = vectors.flip(1)[:, :count].abs().argmax(1)
    return component


def survivors(likeness: Tensor, rank: Tensor, group: Tensor, threshold: Tensor) -> Tensor:
    """[N] bool, what no survivor of its group that ranks before it is too much like.

    Args:
        likeness: [N, N] cosines.
        rank: [N] long, 0 for the most attention.
    """
    rival = (likeness > threshold) & (group[:, None] == group) & (rank[None] < rank[:, None])  # [N, by whom]
    alive = torch.ones(len(rank), dtype=torch.bool, device=rank.device)
    while True:  # settles from the front: after k rounds the first k ranks are final
        now = ~(rival & alive).any(1)
        if torch.equal(now, alive):
            return alive
        alive = now


def places(total: int, sizes: list[int], alive: list[int]) -> list[int]:
    """How many tokens each group keeps.

    Args:
        total: at least 1, at most the sum of ``sizes``.
        sizes, alive: tokens and survivors of each group; one that has tokens has a survivor.
    """
    real = sorted((g for g, size in enumerate(sizes) if size > 0), key=lambda g: (-alive[g], g))
    most = [min(5 * ceil(total / 64), number) for number in alive]
    while sum(most) < total:  # caps are raised until they suffice
        most = [min(m + 1, size) for m, size in zip(most, sizes, strict=True)]
    share = [0] * len(sizes)
    for g in real[:total]:
        share[g] = 1
    left, before = total - sum(share), 0
    for g, ahead in enumerate(accumulate(alive)):  # by rounding the running sum, so that the parts add up
        end = round(left * ahead / sum(alive))
        share[g], before = min(share[g] + end - before, most[g]), end
    for g in real:  # what the caps took away
        share[g] += min(most[g] - share[g], total - sum(share))
    return share


@dataclass(frozen=True)
class PruneSID(AttentionScorer):
    """Attributes: see `AttentionScorer`."""

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2603.09480", stages=("encode",), needs=("attention",))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """The first of every group, row by row: groups differ from image to image."""
        share = torch.minimum(share, view.tokens.counts())
        keep = torch.zeros_like(view.tokens.visual)
        for row, (visual, wanted) in enumerate(zip(view.tokens.visual, share.tolist(), strict=True)):
            if view.tokens.plain:
                keep[row] = self._chosen(view.tokens.x[row], score[row], wanted)
                continue
            at = visual.nonzero()[:, 0]
            keep[row, at] = self._chosen(view.tokens.x[row, at], score[row, at], wanted)
        return Decision(keep=keep, score=score, count=share)

    def _chosen(self, x: Tensor, attention: Tensor, total: int) -> Tensor:
        """[N] bool, the tokens of one image that stay, ``total`` of them."""
        n, device = len(x), x.device
        if total in (0, n):
            return torch.full((n,), total > 0, device=device)
        groups = max(1, min(total // 4, n))
        group = groups_of(x, groups)
        v = unit(x).double()
        likeness = v @ v.T
        mean = (likeness.sum() - likeness.diagonal().sum()) / max(n * (n - 1), 1)
        order = attention.argsort(descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(n, device=order.device))
        alive = survivors(likeness, rank, group, total / 32 * mean)
        both = torch.stack([torch.ones_like(group), alive.long()])  # [2, N]
        sizes, living = both.new_zeros(2, groups).index_add_(1, group, both).tolist()
        share = upload(places(total, sizes, living), device)
        # Group by group, survivors before the others, both by attention.
        order = (group * 2 * n + (~alive).long() * n + rank).argsort()
        ahead = upload([0, *accumulate(sizes)], device)
        of = group[order]
        best = torch.arange(n, device=device) - ahead[of] < share[of]
        return torch.zeros_like(best).scatter(0, order, best)
