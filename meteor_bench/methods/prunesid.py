"""PruneSID: Prune Redundancy, Preserve Essence (ICLR 2026, arXiv 2603.09480), section 3. After the encoder.

Tokens are grouped by the principal component that weighs them most: with the channels as samples and the tokens as
variables, T/4 components of the sigmoid of the features. In each group, in falling order of the class token's
attention, a token is suppressed if one before it that is not suppressed has a cosine above a threshold, T/32 times the
mean cosine of the image's tokens. Survivors come first in their group, suppressed ones behind them, both by attention.
Each group that holds a token gets a place; the others are shared in proportion to the groups' survivors, and the first
of each group stay. The class token is one of the T and stands first; the others follow group by group, the largest
component's first, in the order in which they were chosen, as in the authors' code.

Deviations:

1. The authors' components come from a random low-rank method, so that two runs on one image share three fifths of what
   they keep (64 of 576, random scenes); here they are exact, of the covariance in float64. Where two components weigh a
   token alike, the larger one has it. Of groups with as many survivors the lower comes first; in their code that is
   left to the sort.
2. An encoder without a class token, and a shared fusion, keep one more patch instead (recorded). In pictures the class
   token stands for the patch with the most attention of those that go.
3. Places that no group's survivors fill go, one by one, to the groups with the most survivors that have tokens left;
   the share of a group is at most 5·ceil(T/64) as long as T places can be had so, as in the authors' code. The
   threshold is that of their code for LLaVA; the one for Qwen2-VL has 18·T/N, at least 1, in place of T/32.
4. `order` = spatial puts the patches in spatial order. The authors' code for tiles hands on features in the order of
   the groups at the places of the spatial order; that is not repeated.
5. Several encoders, frames, encoders without a class token or attention, and the block that the attention is read from:
   see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.host import upload
from meteor_bench.core.pruner import Decision, Fact, View, keep_top
from meteor_bench.core.rows import ranks
from meteor_bench.methods.shared.class_token import handed_on, without_class_token
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.orders import AuthorsOrder
from meteor_bench.methods.shared.selection import AttentionScorer

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

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


def places(total: int, sizes: list[int], alive: list[int], others: int = 0) -> list[int]:
    """How many tokens each group keeps.

    Args:
        total: at least 1, at most the sum of ``sizes``.
        sizes, alive: tokens and survivors of each group; one that has tokens has a survivor.
        others: of the total, what is kept besides the groups' tokens; the caps are those of the total.
    """
    real = sorted((g for g, size in enumerate(sizes) if size > 0), key=lambda g: (-alive[g], g))
    most = [min(5 * ceil(total / 64), number) for number in alive]
    while sum(most) < total:  # caps are raised until they suffice
        most = [min(m + 1, size) for m, size in zip(most, sizes, strict=True)]
    total, share = total - others, [0] * len(sizes)
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
class PruneSID(AuthorsOrder, AttentionScorer):
    """Attributes: see `AttentionScorer` and `AuthorsOrder`."""

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2603.09480", stages=("encode",), needs=("attention",))
    title: ClassVar[str] = "prunesid"

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """Where there is no class token to hand on."""
        return (*super().substitutes(vlm), *without_class_token(vlm))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """The class token, and the first of every group; groups differ from image to image."""
        tokens, visual, count = view.tokens, view.tokens.visual, view.tokens.counts()
        share = torch.minimum(share, count)
        wanted, heads = share.tolist(), int(view.has_cls)
        if tokens.plain and len(set(wanted)) == 1:
            rank = self._ranked(tokens.x, score, wanted[0], heads)
        else:
            rank = torch.full(visual.shape, -1, device=visual.device)
            for row, here in enumerate(visual):
                at = here.nonzero()[:, 0]
                rank[row, at] = self._ranked(tokens.x[row, at][None], score[row, at][None], wanted[row], heads)[0]
        keep = rank >= 0
        headed = (share > 0) & (share < count) & view.has_cls
        mix = None
        if bool(headed.any()):
            head = keep_top(score, headed.long(), visual & ~keep)  # whose place the class token takes
            keep, rank = keep | head, torch.where(head, 0, rank)
            mix = handed_on(tokens.special, keep, head, None, int(share.max()))
        return Decision(keep=keep, mix=mix, score=score, order=None if self.ordered else rank.clamp(min=0), count=share)

    def _ranked(self, x: Tensor, attention: Tensor, total: int, others: int) -> Tensor:
        """[R, N] long, the turn (from 1 on) in which the tokens of each image that stay do so, -1 for the others.

        Args:
            total: tokens of each image that stay; of them ``others``, if any go, are no patches.
        """
        rows, n, _ = x.shape
        device = x.device
        if total in (0, n):
            return torch.full((rows, n), 1 if total > 0 else -1, device=device)
        groups = max(1, min(total // 4, n))
        group = groups_of(x, groups)
        v = unit(x).double()
        likeness = torch.stack([row @ row.T for row in v])
        pairs = likeness.flatten(1).sum(1) - likeness.diagonal(dim1=1, dim2=2).sum(1)
        rank = ranks(attention)
        alive = survivors(likeness, rank, group, total / 32 * (pairs / max(n * (n - 1), 1)))
        both = torch.stack([torch.ones_like(group), alive.long()], 1)  # [R, 2, N]
        counted = both.new_zeros(rows, 2, groups).scatter_add_(2, group[:, None].expand_as(both), both).tolist()
        share = upload([places(total, sizes, living, others) for sizes, living in counted], device)
        # Group by group, survivors before the others, both by attention.
        order = (group * 2 * n + (~alive).long() * n + rank).argsort(1)
        ahead = upload([[0, *accumulate(sizes)] for sizes, _ in counted], device)
        of = group.gather(1, order)
        turn = torch.arange(n, device=device)
        best = turn - ahead.gather(1, of) < share.gather(1, of)
        return torch.zeros_like(order).scatter_(1, order, torch.where(best, turn + 1, -1))
