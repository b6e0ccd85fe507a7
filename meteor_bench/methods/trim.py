"""TRIM: Less is More, a simple yet effective token reduction method (arXiv 2409.10994), section 3.

Before the language model: tokens are ranked by a softmax of their similarity to the question; the best stay, and the
mean of all others follows them as one more token, so that T - 1 are kept as they are.

Deviations:

- The official score is minus the dot product of CLIP's patch and text embeddings. The models here have no CLIP text
  tower: the dot product of a projected token with the mean of the language model's embeddings of the prompt after the
  image takes its place; `negate` (default, as published) puts the minus before it.
- The official code sets the number kept by an outlier test on the scores; here it is the budget.
- The mean is weighted by the patches that a token stands for (all 1 unless tokens were merged before); it stands for
  the best-ranked of the others, and that one's origin is its own.
- On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts; a
  share of one token is the mean alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, FusePoint, FuseView, keep_top
from meteor_bench.methods.shared.helpers import NO_CLIP_TEXT, mean_text
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["Trim"]


@dataclass(frozen=True)
class Trim(FuseChooser):
    """Attributes: negate: rank by minus the similarity to the question, as published for CLIP."""

    negate: bool = True

    fact: ClassVar[Fact] = Fact(
        year=2024,
        paper="arXiv 2409.10994",
        needs=("text",),
        substitutes=(NO_CLIP_TEXT,),
    )
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"
    ordered: ClassVar[bool] = False

    asks: ClassVar[FusePoint] = FusePoint(text=True)

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """The best of each sequence, and the mean of the rest."""
        visual = view.tokens.visual
        similarity = torch.einsum("bnd,bd->bn", view.tokens.x.float(), mean_text(view).float())
        similarity = (-similarity if self.negate else similarity).masked_fill(~visual, -torch.inf)
        # The softmax changes no rank; scores are compared before it, where it has not yet rounded them to zero.
        keep = keep_top(similarity, share, visual)
        alone = keep_top(similarity, share - 1, visual)
        pruned = on_device((share < view.tokens.counts()) & (share > 0), keep.device)
        mean = keep & ~alone & pruned[:, None]  # [B, N], the one that stands for the rest
        into = torch.where(mean.any(1), mean.to(torch.uint8).argmax(1), -1)
        into = into[:, None].expand_as(keep).masked_fill(keep | ~visual, -1)
        score = similarity.softmax(1)
        return Decision(keep=keep, merge_into=into, score=score, order=mean.long(), count=share)
