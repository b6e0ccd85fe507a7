"""CDPruner: Conditional diversity maximization (NeurIPS 2025, arXiv 2506.10967), section 3.

Before the language model: the subset of largest determinant under the kernel ``L = diag(q)·S·diag(q)``, a
determinantal point process conditioned on the question. S is the cosine of projected tokens; q their relevance to
the question, ``(r - min r + 1e-6) / (max r - min r)``. Greedy: always the token that raises the determinant most.

Deviations:

- The paper's r is minus the cosine between CLIP's patch and text embeddings (minus, because CLIP's patches point away
  from the text that describes them). The models here have no CLIP text tower: r is the cosine between a projected token
  and the mean of the language model's embeddings of the prompt after the image, question and template's end.
  `negate` (default, as published) puts the minus before it.
- Once no remaining token raises the determinant (its share of the kernel's largest entry is below 1e-10, as when more
  tokens are wanted than the features have dimensions), the most relevant ones fill the budget; the official code
  divides by zero there. All arithmetic is in float64; of equal gains the lower index is taken.
- The authors' min r and max r are those of the whole batch, so that a sample's tokens depend on the others'; here they
  are the sample's own. `official_quirks` restores it: the same for a batch of one, and no answer to rely on for more.
- On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, FusePoint, FuseView, keep_top
from meteor_bench.methods.shared.helpers import NO_CLIP_TEXT, mean_text
from meteor_bench.methods.shared.picks import picked, to_search
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["CDPruner", "Chosen", "greedy_map", "relevance"]

EXHAUSTED = 1e-10


def relevance(x: Tensor, text: Tensor, visual: Tensor, *, negate: bool = True, batch_wide: bool = False) -> Tensor:
    """[B, N] float64 in (0, 1], min-max normalised within each row; 0 where not visual.

    Args:
        x: [B, N, D] projected tokens.
        text: [B, D] the question.
        batch_wide: normalise with the range of all rows together.
    """
    x, text = x.double(), torch.nn.functional.normalize(text.double(), dim=-1, eps=1e-12)
    r = torch.einsum("bnd,bd->bn", x, text) / x.norm(dim=-1).clamp(min=1e-12)
    r = -r if negate else r
    low = r.masked_fill(~visual, torch.inf).amin(1, keepdim=True)
    high = r.masked_fill(~visual, -torch.inf).amax(1, keepdim=True)
    if batch_wide:
        low, high = low.amin(0, keepdim=True), high.amax(0, keepdim=True)
    spread = high - low
    q = torch.where(spread > 0, (r - low + 1e-6) / spread.clamp(min=1e-12), torch.ones_like(r))
    return q.masked_fill(~visual, 0.0)


class Chosen(NamedTuple):
    """What the greedy search found.

    Attributes:
        keep: [B, N] bool.
        gains: [B, K] what each step multiplied the determinant by; NaN for steps that were not needed or came
            after the kernel was exhausted.
    """

    keep: Tensor
    gains: Tensor


def greedy_map(x: Tensor, quality: Tensor, k: Tensor, allowed: Tensor, count: Tensor | None = None) -> Chosen:
    """Greedy maximum a posteriori of a determinantal point process (Chen et al. 2018): T steps.

    Args:
        x: [B, N, D]; S is the cosine of its rows.
        quality: [B, N] float64.
        k: [B] long on the CPU, tokens to choose; clipped to those allowed.
        allowed: [B, N] bool.
        count: [B] on the CPU, how many are allowed; None: the device is asked.
    """
    x = x.double()
    weight = (quality / x.norm(dim=-1).clamp(min=1e-12)).masked_fill(~allowed, 0.0)  # [B, N]
    # [B, N, N], once: a row at a time would read all features in every step. Weighted here, where D does not count.
    kernel = (x @ x.transpose(1, 2)).mul_(weight[:, :, None]).mul_(weight[:, None])
    # Exactly the squared quality, so that rounding does not decide between equal ones.
    gain = torch.where(weight > 0, quality.square(), 0.0)  # [B, N]
    kernel.diagonal(dim1=1, dim2=2).copy_(gain)
    floor = EXHAUSTED * gain.amax(1)
    k, whole = to_search(k, allowed.sum(1).cpu() if count is None else count)
    steps = int(k.max())
    left = gain.masked_fill(~allowed, -torch.inf)  # what each would gain now
    # L·D·L' of the kernel, one pivot a step: the rows before their division by the pivot here, those after it, as
    # columns, beside the kernel, so that one look-up brings what belongs to a token. Five operations a step.
    rows = x.new_zeros(len(x), steps, x.shape[1])
    table = torch.cat([kernel, x.new_zeros(len(x), x.shape[1], steps)], 2)
    width = x.shape[1]
    picks, gains = [], []
    for step in range(steps):
        most, best = left.max(1, keepdim=True)  # [B, 1]
        picks.append(best)
        gains.append(most)
        own = take_rows(table, best)  # [B, 1, N + steps]
        row = rows[:, step : step + 1]
        torch.baddbmm(own[..., :width], own[..., width : width + step], rows[:, :step], alpha=-1, out=row)
        divided = torch.div(row[:, 0], most, out=table[:, :, width + step])
        left.addcmul_(row[:, 0], divided, value=-1)  # the pivot's own becomes nothing, up to rounding
    return _chosen(picks, gains, floor[:, None], k, whole, quality, allowed)


def _chosen(
    picks: list[Tensor], gains: list[Tensor], floor: Tensor, k: Tensor, whole: Tensor, quality: Tensor, allowed: Tensor
) -> Chosen:
    """The steps put together; those after one that gained nothing are worth nothing, the best quality takes over.

    Args:
        picks, gains: for each step [B, 1] the token, and what it multiplied the determinant by.
        floor: [B, 1] where a gain counts as none.
        k, whole: [B] on the CPU, steps that a row wanted, and whether it keeps everything without.
    """
    live = torch.arange(len(picks)) < k[:, None]
    if not picks:
        return Chosen(picked(picks, live, whole, allowed), floor.new_zeros(live.shape))
    found, live = torch.cat(gains, 1), on_device(live, allowed.device)
    live = live & ((~(found > floor)).cumsum(1) == 0)
    keep = picked(picks, live, whole, allowed)
    missing = on_device(k, keep.device) - keep.sum(1)
    keep = keep | keep_top(quality, missing, allowed & ~keep)
    return Chosen(keep, found.masked_fill(~live, torch.nan))


@dataclass(frozen=True)
class CDPruner(FuseChooser):
    """Attributes are explained at the top of the file.

    Attributes:
        negate: relevance is minus the similarity to the question, as published for CLIP.
        official_quirks: normalise it over the whole batch, as the authors' code does.
    """

    negate: bool = True
    official_quirks: bool = False

    fact: ClassVar[Fact] = Fact(
        year=2025,
        paper="arXiv 2506.10967",
        needs=("text",),
        substitutes=(NO_CLIP_TEXT,),
    )
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    asks: ClassVar[FusePoint] = FusePoint(text=True)

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """A diverse and relevant subset of each sequence."""
        x = view.tokens.x.double()  # once for both
        text = mean_text(view)
        quality = relevance(x, text, view.tokens.visual, negate=self.negate, batch_wide=self.official_quirks)
        keep = greedy_map(x, quality, share, view.tokens.visual, view.tokens.counts()).keep
        return Decision(keep=keep, score=quality, count=share)
