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
from meteor_bench.core.rows import ranks
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["PruneSID", "groups_of", "places", "survivors"]


def groups_of(x: Tensor, count: int) -> Tensor:
    """[R, N] the principal component, 0 the largest, that weighs each token of a row of x [R, N, D] most."""
    samples = x.double().sigmoid().mT  # [R, D, N]
    samples = samples - samples.mean(1, keepdim=True)
    # Row by row, so that a row is the same in any batch; the decompositions in one go, for each is waited for.
    _, vectors = torch.linalg.eigh(torch.stack([row.T @ row for row in samples]))  # ascending
    component: Tensor = vectors.flip(2)[..., :count].abs().argmax(2)
    return component


def survivors(likeness: Tensor, rank: Tensor, group: Tensor, threshold: Tensor) -> Tensor:
    """[..., N] bool, what no survivor of its group that ranks before it is too much like.

    Args:
        likeness: [..., N, N] cosines.
        rank: [..., N] long, 0 for the most attention.
        threshold: [...]
    """
    alike = (likeness > threshold[..., None, None]) & (group[..., None] == group[..., None, :])
    rival = alike & (rank[..., None, :] < rank[..., None])  # [..., N, by whom]
    alive = torch.ones(rank.shape, dtype=torch.bool, device=rank.device)
    while True:  # settles from the front: after k rounds the first k ranks are final
        now = ~(rival & alive[..., None, :]).any(-1)
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
        """The first of every group; groups differ from image to image."""
        share = torch.minimum(share, view.tokens.counts())
        wanted = share.tolist()
        if view.tokens.plain and len(set(wanted)) == 1:
            return Decision(keep=self._chosen(view.tokens.x, score, wanted[0]), score=score, count=share)
        keep = torch.zeros_like(view.tokens.visual)
        for row, visual in enumerate(view.tokens.visual):
            at = visual.nonzero()[:, 0]
            keep[row, at] = self._chosen(view.tokens.x[row, at][None], score[row, at][None], wanted[row])[0]
        return Decision(keep=keep, score=score, count=share)

    def _chosen(self, x: Tensor, attention: Tensor, total: int) -> Tensor:
        """[R, N] bool, the tokens of each image that stay, ``total`` of them."""
        rows, n, _ = x.shape
        device = x.device
        if total in (0, n):
            return torch.full((rows, n), total > 0, device=device)
        groups = max(1, min(total // 4, n))
        group = groups_of(x, groups)
        v = unit(x).double()
        likeness = torch.stack([row @ row.T for row in v])
        pairs = likeness.flatten(1).sum(1) - likeness.diagonal(dim1=1, dim2=2).sum(1)
        rank = ranks(attention)
        alive = survivors(likeness, rank, group, total / 32 * (pairs / max(n * (n - 1), 1)))
        both = torch.stack([torch.ones_like(group), alive.long()], 1)  # [R, 2, N]
        counted = both.new_zeros(rows, 2, groups).scatter_add_(2, group[:, None].expand_as(both), both).tolist()
        share = upload([places(total, sizes, living) for sizes, living in counted], device)
        # Group by group, survivors before the others, both by attention.
        order = (group * 2 * n + (~alive).long() * n + rank).argsort(1)
        ahead = upload([[0, *accumulate(sizes)] for sizes, _ in counted], device)
        of = group.gather(1, order)
        best = torch.arange(n, device=device) - ahead.gather(1, of) < share.gather(1, of)
        return torch.zeros_like(best).scatter_(1, order, best)
