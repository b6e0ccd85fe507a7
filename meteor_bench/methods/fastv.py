"""FastV: An Image is Worth 1/2 Tokens After Layer 2 (ECCV 2024, arXiv 2403.06764), section 4.1.

Before language-model layer K the visual tokens are ranked by the attention that the last prompt token pays them in
layer K-1, averaged over heads; the T highest stay, with their original position ids.

Deviations: none known. K (0-based) is 2 as in the paper; the authors' demo uses 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, Points, Pruner, keep_top

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["FastV"]


@dataclass(frozen=True)
class FastV(Pruner):
    """Attributes: layer: tokens are dropped before this language-model layer (0-based, at least 1)."""

    layer: int = 2

    fact: ClassVar[Fact] = Fact(year=2024, paper="arXiv 2403.06764", stages=("decode",), needs=("attention",))

    def __post_init__(self) -> None:
        if self.layer < 1:
            raise ConfigError(
                f"fastv: layer={self.layer} has no layer before it to read attention from; take 1 or more"
            )

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before layer `layer`."""
        if self.layer >= vlm.decoder.depth:
            raise UnsupportedError(
                f"fastv with layer={self.layer} needs a deeper language model than '{vlm.name}' "
                f"({vlm.decoder.depth} layers); take at most {vlm.decoder.depth - 1}"
            )
        return Points(decode=(DecodePoint(before=self.layer, attention="last"),))

    def decode(self, view: DecodeView) -> Decision:
        """The tokens that the last prompt token attends to most."""
        score = view.attention.float().mean(1)[:, 0]  # [B, H, 1, N] -> [B, N]
        return Decision(keep=keep_top(score, view.target, view.tokens.visual), score=score)
