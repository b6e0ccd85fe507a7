"""HoloV: Don't Just Chase "Highlighted Tokens" (NeurIPS 2025, arXiv 2510.02912), section 3. Before the language model.

The tokens are cut into P runs in raster order ("crops"). A token's score is ``1000·attention + 0.09·variance``: the
class token's attention, and the variance of its cosines to the others of its crop, scaled so that the crop's mean is
that of the first term. The diagonal counts as 0, the sum is divided by the crop's size less one. The budget is split in
proportion to the crops' mean scores, rounded down, the remainder goes one each to the heaviest; each crop keeps its
tokens with the highest attention. Cosines are of projected tokens.

Deviations: a crop that gets more than it holds hands the surplus on to the others in the same way, and a crop of one
token is scored like the others, with variance 0. In the authors' code the surplus becomes tokens of zeros behind the
others, and the score of a crop of one token lacks the factor 1000; `official_quirks` restores both. Tokens stay in
spatial order (theirs: crop after crop, by attention in a crop that loses some). On a shared fusion the encoders'
attentions are scaled to a sum of 1 and averaged. Several encoders, frames, encoders without a class token or attention,
and the block that the attention is read from: see `shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, View, keep_top
from meteor_bench.core.rows import ordered
from meteor_bench.core.settings import Range
from meteor_bench.core.tokens import Tokens
from meteor_bench.methods.shared.helpers import rank_of, unit
from meteor_bench.methods.shared.picks import best_of_groups
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["HoloV", "allot", "crop_of", "crop_scores"]

EPS = 1e-6  # the authors'


def crop_of(tokens: Tokens, crops: int) -> tuple[Tensor, Tensor]:
    """[B, N] crop of each visual token (meaningless elsewhere) and [B, P] the crops' sizes, on the CPU.

    The first crops are larger.
    """
    count = tokens.counts()
    base, rest = count[:, None] // crops, count[:, None] % crops
    size = base + (torch.arange(crops) < rest).long()  # [B, P]
    ends = size.cumsum(1)
    if tokens.plain:
        place = torch.arange(tokens.x.shape[1]).repeat(len(ends), 1)
    else:
        place, ends = rank_of(tokens.visual).clamp(min=0), on_device(ends, tokens.x.device)
    crop = torch.searchsorted(ends, place.contiguous(), right=True).clamp(max=crops - 1)
    return on_device(crop, tokens.x.device), size


def crop_scores(x: Tensor, attention: Tensor, visual: Tensor | None, size: Tensor, variance: float) -> Tensor:
    """[B, P] float64 mean score of each crop of ``size`` [B, P] tokens (on the CPU), 0 for an empty one.

    Args:
        visual: [B, N] bool; None: all are.
    """
    b, n, d = x.shape
    most = torch.arange(int(size.max()))
    real = on_device(most < size[..., None], x.device)  # [B, P, M]
    place = ((size.cumsum(1) - size)[..., None] + most).clamp(max=max(0, n - 1)).flatten(1)
    place, size = on_device(place, x.device), on_device(size, x.device)
    token = place if visual is None else ordered(visual, True).gather(1, place)  # [B, P·M], visual tokens first
    # The cosines within each crop; nobody asks for those between crops.
    v = take_rows(unit(x), token).view(b * size.shape[1], len(most), d)
    s = (v @ v.transpose(1, 2)).view(b, size.shape[1], len(most), len(most)).double()
    s.diagonal(dim1=2, dim2=3).zero_()
    s.masked_fill_(~(real[..., None] & real[..., None, :]), 0.0)
    total, square = s.sum(3), s.square().sum(3)  # [B, P, M]
    mine = size[..., None].double()
    mean = total / (mine - 1).clamp(min=1)
    spread = (square - 2 * mean * total + mine * mean.square()) / (mine - 1).clamp(min=1)
    looked = 1000 * attention.gather(1, token).view_as(real).double()

    def crop_mean(values: Tensor) -> Tensor:
        return values.masked_fill(~real, 0.0).sum(2) / size.clamp(min=1)

    a, c = crop_mean(looked), crop_mean(spread.clamp(min=0))
    return a + variance * c * a / (c + EPS)


def allot(weight: Tensor, size: Tensor, total: Tensor, *, once: bool = False) -> Tensor:
    """[B, P] tokens that each crop keeps; sums to ``total`` exactly.

    Args:
        weight: [B, P] non-negative.
        size: [B, P] the most each can keep.
        total: [B] long, at most the sum of ``size``.
        once: what a crop cannot keep is lost.
    """
    kept = torch.zeros_like(size)
    while bool((kept.sum(1) < total).any()):
        left = (total - kept.sum(1))[:, None]
        free = size > kept
        share = torch.where(free, weight, torch.zeros_like(weight))
        mass = share.sum(1, keepdim=True)
        share = torch.where(mass > 0, share / (mass + EPS), free.double() / free.sum(1, keepdim=True).clamp(min=1))
        more = (share * left).floor().long()
        order = torch.where(free, share, -torch.ones_like(share)).argsort(dim=1, descending=True, stable=True)
        place = torch.empty_like(order).scatter_(
            1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
        )
        more = more + ((place < left - more.sum(1, keepdim=True)) & free)
        kept = torch.minimum(kept + more, size)
        if once:
            break
    return kept


@dataclass(frozen=True)
class HoloV(AttentionScorer):
    """Attributes are explained at the top of the file.

    Attributes:
        crops: P.
        variance: weight of the variance.
        official_quirks: what the authors' code does with crops that cannot hold their share, or hold one token.
    """

    crops: Annotated[int, Range(least=1)] = 16
    variance: Annotated[float, Range(least=0)] = 0.09
    official_quirks: bool = False

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2510.02912", stages=("encode", "fuse"), needs=("attention",))
    title: ClassVar[str] = "holov"
    projected: ClassVar[bool] = True
    scaling: ClassVar[Literal["range", "sum"]] = "sum"

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        """Tokens of zeros stand behind the others."""
        return not self.official_quirks

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """A budget for each crop, and its tokens with the highest attention."""
        visual = view.tokens.visual
        crop, held = crop_of(view.tokens, self.crops)
        weight = crop_scores(view.tokens.x, score, view.candidates, held, self.variance)
        wanted = torch.minimum(share, view.tokens.counts())
        weight = weight.cpu()  # shares add up to whole numbers: the host works them out, however many rounds it takes
        if self.official_quirks:
            weight = torch.where(held == 1, weight / 1000, weight)
        kept = allot(weight, held, wanted, once=self.official_quirks)  # [B, P]
        keep = best_of_groups(score, crop if view.tokens.plain else torch.where(visual, crop, self.crops), kept)
        return (
            _with_zeros(keep, score, visual, on_device(wanted, visual.device))
            if self.official_quirks
            else Decision(keep=keep, score=score, count=wanted)
        )


def _with_zeros(keep: Tensor, score: Tensor, visual: Tensor, share: Tensor) -> Decision:
    """Tokens of zeros behind the kept ones until there are ``share`` [B]; each in the place of a dropped one."""
    empty = keep_top(score, share - keep.sum(1), visual & ~keep)
    stays = keep | empty
    row = ordered(stays, True)[:, : int(stays.sum(1).max())]
    own = torch.arange(keep.shape[1], device=keep.device)
    mix = ((row[..., None] == own) & keep[:, None]).to(score.dtype)
    return Decision(keep=stays, mix=mix, score=score, order=empty.long())
