"""VisionZip: Longer is Better but Not Necessary in Vision Language Models (CVPR 2025, arXiv 2412.04467), section 3.2.

After the encoder, before the projector. Dominant tokens: the highest attention of the class token. Of the rest, every
``max(1, floor(rest / C))``-th is a target, C in all; every other token joins the target with the largest cosine of
the head-averaged keys, and a target becomes itself plus the mean of what joined it (a sum of two terms, as in the
authors' code). C is 10 of 64, 20 of 128, 30 of 192.

Deviations:

- The class token does not go to the language model, so all T tokens are patches (the authors': T - 1 and it).
- Tokens stay in spatial order; the authors put the contextual ones after the dominant ones.
- On a shared fusion, and in a convolutional encoder, features take the keys' place.
- Several encoders, frames, encoders without a class token or attention, and the block that the attention is read from:
  see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meteor_bench.core.errors import ConfigError
from meteor_bench.core.pruner import Decision, Fact, View, keep_top
from meteor_bench.methods.shared.helpers import rank_of, round_half_up, unit
from meteor_bench.methods.shared.selection import AttentionScorer

__all__ = ["VisionZip"]


@dataclass(frozen=True)
class VisionZip(AttentionScorer):
    """Attributes: contextual: share of the budget that goes to contextual tokens; and see `AttentionScorer`."""

    contextual: float = 10 / 64

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2412.04467", stages=("encode",), needs=("attention", "keys"))
    title: ClassVar[str] = "visionzip"
    keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.contextual <= 1:
            raise ConfigError(f"visionzip: contextual={self.contextual} is outside [0, 1]")

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Dominant tokens, and targets that take in the rest."""
        visual, count = view.tokens.visual, view.tokens.counts()
        share = torch.minimum(share, count)
        few = round_half_up(share.double() * self.contextual)  # C, [R]
        dominant = keep_top(score, share - few, visual)
        rest = visual & ~dominant
        step = (rest.sum(1) // few.clamp(min=1)).clamp(min=1)[:, None]
        place = rank_of(rest)
        target = rest & (place % step == 0) & (place // step < few[:, None])
        v = unit(view.compared)
        likeness = (v @ v.transpose(1, 2)).masked_fill(~target[:, None], -torch.inf)  # [R, N, N]
        joins = rest & ~target & (few > 0)[:, None]
        into = torch.full_like(place, -1)
        if place.shape[1] > 0:
            into = torch.where(joins, likeness.argmax(2), into)
        members = torch.zeros_like(score).scatter_add_(1, into.clamp(min=0), joins.to(score.dtype))
        weight = torch.where(joins, 1 / members.gather(1, into.clamp(min=0)).clamp(min=1), torch.ones_like(score))
        return Decision(keep=dominant | target, merge_into=into, weight=weight, normalise=False, score=score)
