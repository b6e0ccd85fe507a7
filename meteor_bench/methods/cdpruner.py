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

from meteor_bench.core.pruner import Decision, Fact, FusePoint, FuseView
from meteor_bench.methods.shared.helpers import NO_CLIP_TEXT, mean_text
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


def greedy_map(x: Tensor, quality: Tensor, k: Tensor, allowed: Tensor) -> Chosen:
    """Greedy maximum a posteriori of a determinantal point process (Chen et al. 2018): T steps.

    Args:
        x: [B, N, D]; S is the cosine of its rows.
        quality: [B, N] float64.
        k: [B] long, tokens to choose; clipped to those allowed.
        allowed: [B, N] bool.
    """
    x = x.double()
    weight = (quality / x.norm(dim=-1).clamp(min=1e-12)).masked_fill(~allowed, 0.0)  # [B, N]
    # [B, N, N], once: a row at a time would read all features in every step. Weighted here, where D does not count.
    kernel = (x @ x.transpose(1, 2)).mul_(weight[:, :, None]).mul_(weight[:, None])
    # Exactly the squared quality, so that rounding does not decide between equal ones.
    gain = torch.where(weight > 0, quality.square(), 0.0)  # [B, N]
    kernel.diagonal(dim1=1, dim2=2).copy_(gain)
    floor = EXHAUSTED * gain.amax(1)
    k = torch.minimum(k, allowed.sum(1))
    partial = k < allowed.sum(1)
    steps = int((k * partial).max())
    rows = torch.arange(len(x), device=x.device)
    chosen, free = allowed & ~partial[:, None], allowed.clone()
    basis = x.new_zeros(len(x), steps, x.shape[1])  # rows of the kernel's Cholesky factor
    gains = x.new_full((len(x), steps), torch.nan)
    for step in range(steps):
        left = gain.masked_fill(~free, -torch.inf)
        best = left.argmax(1)  # [B]
        most = left[rows, best]
        spent = most <= floor
        best = torch.where(spent, quality.masked_fill(~free, -torch.inf).argmax(1), best)
        live = partial & (step < k)
        gains[:, step] = torch.where(live & ~spent, most, gains[:, step])
        chosen[rows, best] |= live
        free[rows, best] &= ~live
        row = kernel[rows, best]
        row = row - torch.einsum("bt,btn->bn", basis[rows, :step, best], basis[:, :step])
        row = torch.where(spent[:, None], torch.zeros_like(row), row / most.clamp(min=1e-300).sqrt()[:, None])
        basis[:, step] = row
        gain = gain - row.square()
    return Chosen(chosen, gains)


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
        keep = greedy_map(x, quality, share, view.tokens.visual).keep
        return Decision(keep=keep, score=quality)
