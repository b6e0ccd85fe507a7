"""VisionZip: Longer is Better but Not Necessary in Vision Language Models (CVPR 2025, arXiv 2412.04467), section 3.2.

After the encoder, before the projector. Dominant tokens: the highest attention of the class token. Of the rest, every
``max(1, floor(rest / C))``-th is a target, C in all; every other token joins the target with the largest cosine of
the head-averaged keys, and a target becomes itself plus the mean of what joined it (a sum of two terms, as in the
authors' code). C is 10 of 64, 20 of 128, 30 of 192. The class token is one of the dominant ones and counts: it stands
first, the dominant patches follow, then the contextual ones, each in spatial order.

Deviations:

- An encoder without a class token, and a shared fusion, whose grid has no place for one, keep one more dominant patch
  instead (recorded).
- `order` = spatial puts all tokens in spatial order, the class token where the patch was that it stands for.
- In pictures the class token stands for the patch with the most attention among those that became neither dominant nor
  a target. Where an image keeps everything, nothing is merged, moved or replaced.
- On a shared fusion, and in a convolutional encoder, features take the keys' place.
- Several encoders, frames, encoders without a class token or attention, and the block that the attention is read from:
  see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, View, keep_top
from meteor_bench.core.settings import Share
from meteor_bench.methods.shared.class_token import handed_on, without_class_token
from meteor_bench.methods.shared.helpers import (
    rank_of,
    round_half_up,
    unit,
)
from meteor_bench.methods.shared.orders import AuthorsOrder
from meteor_bench.methods.shared.selection import AttentionScorer

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["VisionZip"]


@dataclass(frozen=True)
class VisionZip(AuthorsOrder, AttentionScorer):
    """Attributes are explained at the top of the file; see also `AttentionScorer`.

    Attributes:
        contextual: share of the budget that goes to contextual tokens.
    """

    contextual: Share = 10 / 64

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2412.04467", stages=("encode",), needs=("attention", "keys"))
    title: ClassVar[str] = "visionzip"
    keys: ClassVar[bool] = True

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """Where there is no class token to hand on."""
        return (*super().substitutes(vlm), *without_class_token(vlm))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Dominant tokens, and targets that take in the rest."""
        visual, count = view.tokens.visual, view.tokens.counts()
        share = torch.minimum(share, count)
        few = round_half_up(share.double() * self.contextual)  # C, [R]
        headed = (share < count) & (share > few) & view.has_cls  # the class token takes a dominant place
        dominant = keep_top(score, share - few - headed.long(), visual)
        rest = visual & ~dominant
        others = count - (share - few - headed.long()).clamp(min=0)
        step, wanted = _columns((others // few.clamp(min=1)).clamp(min=1), few, visual.device)
        place = rank_of(rest)
        target = rest & (place % step == 0) & (place // step < wanted)
        head = None  # whose place the class token takes
        if bool(headed.any()):
            head = keep_top(score, headed.long(), rest & ~target)
        v = unit(view.compared)
        likeness = (v @ v.transpose(1, 2)).masked_fill(~target[:, None], -torch.inf)  # [R, N, N]
        joins = rest & ~target
        if not bool((few > 0).all()):
            joins = joins & (on_device(few, visual.device)[:, None] > 0)
        into = torch.full_like(place, -1)
        if place.shape[1] > 0:
            into = torch.where(joins, likeness.argmax(2), into)
        kept = dominant | target if head is None else dominant | target | head
        mix = handed_on(view.tokens.special, kept, head, into, int(share.max()))
        order = None
        if not self.ordered:
            order = 1 + target.long() if head is None else 1 + target.long() - head.long()
            pruned = share < count
            if not bool(pruned.all()):
                order = order.masked_fill(~on_device(pruned, order.device)[:, None], 0)
        return Decision(
            keep=kept, merge_into=into.masked_fill(kept, -1), mix=mix, score=score, order=order, count=share
        )


def _columns(step: Tensor, wanted: Tensor, device: torch.device) -> tuple[Tensor | int, Tensor | int]:
    """Both [R] as columns on the device, or as numbers where all rows have the same."""
    if bool((step == step[0]).all() & (wanted == wanted[0]).all()):
        return int(step[0]), int(wanted[0])
    columns = on_device(torch.stack([step, wanted]), device)[..., None]
    return columns[0], columns[1]
