"""MMTok: Multimodal Coverage Maximization for Efficient Inference of VLMs (ICLR 2026, arXiv 2508.18264), section 3.

Before the language model. The chosen tokens shall cover both the question and the picture: rows of a matrix M are the
words of the question, each a softmax over the picture's tokens of cosine / `text_temperature`, divided by the number
of words; and the picture's own tokens, each a softmax of cosine / `image_temperature`, divided by the number of tokens
and multiplied by `alpha`. One by one the token is taken that raises ``sum over rows of max over chosen of M`` most.

Deviations:

1. The words are all tokens of the prompt behind the image, embedded as the language model's input; the authors leave
   out the sentence that asks for the answer's form, and stop words. Padding covers nothing.
2. Both cosines are of projected tokens; the authors take the picture's own from features before the projector.
3. `text_temperature` is that of LLaVA for every model (theirs for Qwen2.5-VL is 0.01). Batches are allowed.
4. On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.pruner import Decision, Fact, FusePoint, FuseView
from meteor_bench.core.settings import Range
from meteor_bench.methods.shared.coverage import cover
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["MMTok"]

Temperature = Annotated[float, Range(above=0)]


@dataclass(frozen=True)
class MMTok(FuseChooser):
    """Attributes are explained at the top of the file.

    Attributes:
        alpha: weight of covering the picture.
        image_temperature, text_temperature: what the cosines are divided by.
    """

    alpha: Annotated[float, Range(least=0)] = 0.5
    image_temperature: Temperature = 0.2
    text_temperature: Temperature = 0.02

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2508.18264", needs=("text",))
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"
    asks: ClassVar[FusePoint] = FusePoint(text=True)

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Tokens that cover the question's words and each other."""
        visual = view.tokens.visual
        v, words = unit(view.tokens.x), unit(view.text)
        live = (view.text != 0).any(-1)  # [B, T]
        spoken = _rows(words @ v.transpose(1, 2) / self.text_temperature, live, visual)
        seen = _rows(v @ v.transpose(1, 2) / self.image_temperature, visual, visual)
        value = torch.cat([spoken, self.alpha * seen], 1)
        return Decision(keep=cover(value, None, share, visual, view.tokens.counts()), count=share)


def _rows(logits: Tensor, live: Tensor, visual: Tensor) -> Tensor:
    """[B, R, N] softmax over the visual tokens, divided by the number of rows that are live [B, R]; others are 0."""
    share = (
        logits.masked_fill(~visual[:, None], -torch.inf).softmax(2).nan_to_num(0.0)
    )  # a row of nothing covers nothing
    return share * live[..., None] / live.sum(1).clamp(min=1)[:, None, None]
