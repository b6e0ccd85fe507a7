"""DART: Stop Looking for Important Tokens in Multimodal Language Models (EMNLP 2025, arXiv 2502.11494), section 3.

Before language-model layer 2: a few pivots, the image and the text tokens whose keys (rotated, of the layer before,
heads side by side) have the largest L1 norm. Image pivots stay, and each pivot in turn keeps the tokens that are least
similar to it (cosine of the hidden states after the final norm) among those still left: what duplicates a pivot goes.

Deviations:

- The official code takes pivots in the order in which Python walks through a set of their places in the prompt, which
  is an accident; here the image pivots come first, then those of the text, each by falling norm. `official_quirks`
  restores theirs, with the image at place 35 as in their LLaVA prompt, whatever this model's is.
- Officially each of P pivots keeps floor(M/P) tokens beside the image pivots themselves, 132 for a target of 128. Here
  the T - (image pivots) places are shared out evenly, the first pivots taking one more where they do not divide.
- `layer` is the paper's K = 2 whatever the model's depth. With T below the number of image pivots only T are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, Points, Pruner, keep_top
from meteor_bench.core.rows import ordered
from meteor_bench.core.settings import Layer, Range
from meteor_bench.methods.shared.helpers import unit

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["Dart"]

PROMPT = 35  # tokens before the image in the authors' LLaVA prompt


@dataclass(frozen=True)
class Dart(Pruner):
    """Attributes are explained at the top of the file.

    Attributes:
        layer: tokens are dropped before this language-model layer (0-based, at least 1).
        image_pivots, text_pivots: how many of each, at least one image pivot.
        official_quirks: visit the pivots in the authors' order.
    """

    layer: Layer = 2
    image_pivots: Annotated[int, Range(least=1)] = 4
    text_pivots: Annotated[int, Range(least=0)] = 4
    official_quirks: bool = False

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2502.11494", stages=("decode",), needs=("keys",))

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before layer `layer`."""
        if self.layer >= vlm.decoder.depth:
            raise UnsupportedError(
                f"dart with layer={self.layer} needs a deeper language model than '{vlm.name}' "
                f"({vlm.decoder.depth} layers); take at most {vlm.decoder.depth - 1}"
            )
        return Points(decode=(DecodePoint(before=self.layer, keys=True, normed=True),))

    def decode(self, view: DecodeView) -> Decision:
        """Pivots, and what is least like them."""
        visual = view.tokens.visual
        target = torch.minimum(view.target, view.tokens.counts())
        held, target = target, on_device(target, visual.device)
        places, first = _largest(view.keys, visual, self.image_pivots)  # [B, P]
        first &= torch.arange(first.shape[1], device=first.device) < target[:, None]
        words, second = _largest(view.text_keys, view.text_valid, self.text_pivots)
        pivots = torch.cat([take_rows(view.tokens.x, places), take_rows(view.text, words)], 1)
        active = torch.cat([first, second], 1)  # [B, P]
        chosen = torch.zeros_like(visual).scatter(1, places, first)
        if self.official_quirks:
            visit = _walk(places, first, words + visual.sum(1, keepdim=True), second)
            pivots, active = take_rows(pivots, visit), active.gather(1, visit)
        similar = unit(pivots) @ unit(view.tokens.x).transpose(1, 2)  # [B, P, N]
        quota = _even(target - chosen.sum(1), active)
        unlike, left = -similar, visual & ~chosen
        for i in range(active.shape[1]):  # a handful of pivots, whatever the number of tokens
            left ^= keep_top(unlike[:, i], quota[:, i], left)
        return Decision(keep=visual & ~left, count=held)


def _largest(keys: Tensor, valid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """[B, P] places of the ``count`` largest L1 norms in falling order, and which of them exist.

    P is ``count`` however few there are, so that what choosing costs does not depend on the shortest question.
    """
    norm = keys.float().abs().sum(-1).masked_fill(~valid, -torch.inf)
    places = ordered(norm, True)[:, :count]
    real = valid.gather(1, places)
    missing = count - places.shape[1] if places.shape[1] > 0 else 0
    return (pad(places, (0, missing)), pad(real, (0, missing))) if missing > 0 else (places, real)


def _walk(places: Tensor, first: Tensor, words: Tensor, second: Tensor) -> Tensor:
    """[B, P] the pivots in the order of a Python set of their places in the prompt, those that do not exist last."""
    order = []
    for at, real in zip(torch.cat([places, words], 1).tolist(), torch.cat([first, second], 1).tolist(), strict=True):
        number = {PROMPT + place: i for i, (place, here) in enumerate(zip(at, real, strict=True)) if here}
        walked = [number[place] for place in set(list(number)).copy()]  # as theirs is made, down to its table's size
        order.append(walked + [i for i, here in enumerate(real) if not here])
    return torch.tensor(order, dtype=torch.long, device=places.device).view(len(places), -1)


def _even(total: Tensor, active: Tensor) -> Tensor:
    """[B, P] what each of the active [B, P] pivots gets of ``total`` [B]; the first of them take the remainder."""
    nth = active.cumsum(1)
    parts, total = nth[:, -1:].clamp(min=1), total[:, None]
    return (total // parts + (nth <= total % parts)) * active
