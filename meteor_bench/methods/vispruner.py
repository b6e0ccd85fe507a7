"""VisPruner: Beyond Text-Visual Attention (ICCV 2025, arXiv 2412.01818v2), section 3. After the encoder.

int(T·important) tokens are chosen by the class token's attention. The rest, in descending order of attention, are
thinned out by similarity until the others of T are left: in each round the tokens at even places face those at odd
places, and the (at most `step`) even ones with the largest best cosine go; the survivors of the even half come first,
in descending order of that cosine, then the odd half. Features are those before the projector.

Deviations: an odd number of tokens in a round, which the authors' code cannot do, leaves the even half one larger.
Tokens stay in spatial order. Several encoders, frames, encoders without a class token or attention, and the block that
the attention is read from: see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, View, keep_top
from meteor_bench.core.rows import ordered
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.rounds import facing, thinned
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["VisPruner", "thin_out"]


def thin_out(x: Tensor, order: Tensor, count: Tensor, wanted: Tensor, step: int) -> Tensor:
    """The diverse half: drop near-duplicates, round by round.

    Args:
        x: [B, N, D].
        order: [B, M] long, token indices in descending order of attention; the first ``count`` of a row are real.
        count: [B] long, on the CPU.
        wanted: [B] long, at most ``count``, on the CPU.
        step: tokens dropped in a round.

    Returns:
        [B, N] bool.
    """
    v = unit(x)
    likeness = v @ v.transpose(1, 2)  # [B, N, N]
    while bool((count > wanted).any()):
        drop = torch.minimum(count - wanted, (count + 1) // 2).clamp(max=step)
        if bool((count == count[0]).all() and (drop == drop[0]).all()):
            order = _round_alike(likeness, order[:, : int(count[0])], int(drop[0]))
        else:
            order = _round(likeness, order[:, : int(count.max())], count, drop)
        count = count - drop
    keep = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    order = order[:, : int(count.max())]
    if bool((count == count[0]).all()):
        return keep.scatter_(1, order, True)
    real = torch.arange(order.shape[1], device=x.device) < on_device(count, x.device)[:, None]
    return keep.scatter_(1, order, real)


def _round_alike(likeness: Tensor, order: Tensor, drop: int) -> Tensor:
    """[B, M - drop] the order after a round in which every row has as many tokens [B, M] and loses as many."""
    if order.shape[1] < 2:
        return order[:, drop:]
    return thinned(facing(likeness, order), order, drop)


def _round(likeness: Tensor, order: Tensor, count: Tensor, drop: Tensor) -> Tensor:
    """[B, M] the same for rows of ``count`` tokens each, on the CPU as ``drop`` is; what is left comes first."""
    device = likeness.device
    count, drop = on_device(count, device), on_device(drop, device)
    real = torch.arange(order.shape[1], device=device) < count[:, None]
    even, odd = order[:, 0::2], order[:, 1::2]
    best = even.new_zeros(even.shape, dtype=likeness.dtype)
    if odd.shape[1] > 0:
        # Whole rows, with everything that is not odd put out of the way: cheaper than picking out [E, O] numbers.
        aside = likeness.new_full(likeness.shape[:2], -4.0)
        aside = aside.scatter_(1, odd, torch.where(real[:, 1::2], 0.0, -4.0))
        best = take_rows(likeness, even).add_(aside[:, None]).amax(2)
    best = best.masked_fill(~real[:, 0::2], -torch.inf)
    ranked = ordered(best, True)  # real ones first
    place = torch.arange(even.shape[1], device=device)
    stays = (place >= drop[:, None]) & (place < ((count + 1) // 2)[:, None])
    joined = torch.cat([even.gather(1, ranked), odd], 1)
    alive = torch.cat([stays, real[:, 1::2]], 1)
    return joined.gather(1, ordered(alive, True))


@dataclass(frozen=True)
class VisPruner(AttentionScorer):
    """Attributes are explained at the top of the file.

    Attributes:
        important: share of the budget that attention decides.
        step: tokens dropped in a round.
    """

    important: Share = 0.5
    step: Annotated[int, Range(least=1)] = 8

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2412.01818", stages=("encode",), needs=("attention",))
    title: ClassVar[str] = "vispruner"

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Important tokens, then diverse ones among the rest."""
        visual = view.tokens.visual
        share = torch.minimum(share, view.tokens.counts())
        first = (share.double() * self.important).long()
        important = keep_top(score, first, visual)
        rest, left = visual & ~important, view.tokens.counts() - first
        order = ordered(score.masked_fill(~rest, -torch.inf), True)
        # What is not in the rest comes last, behind any real score.
        order = order.gather(1, ordered(rest.gather(1, order), True))
        diverse = thin_out(view.tokens.x, order, left, share - first, self.step)
        return Decision(keep=important | diverse, score=score, count=share)
