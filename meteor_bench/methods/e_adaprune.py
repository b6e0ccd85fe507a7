"""E-AdaPrune (arXiv 2603.05950): a budget for each image from its energy spectrum, for any selector.

``K(x)`` = the smallest k whose squared singular values of the features hold a share tau of their sum; a base selector
(`base`) then keeps K(x) tokens. tau is calibrated so that the mean K meets the budget.

Deviations. The formula is inferred from the abstract:

- With more tokens than dimensions the rank is at most D; K is then scaled by N / D, so that every budget is within
  reach. With N <= D, as in the paper's models, it is the rank itself.
- The spectrum is exact (eigenvalues of the smaller Gram matrix), not randomised, of the features as they are, not
  centred. tau is calibrated per encoder, in proportion to its tokens, and held as log10(1 - tau).
- The base selectors offered are ours that work at the encoders' outputs, with their defaults. Several encoders, frames:
  see `methods.shared.selection`; on a shared fusion the spectrum is that of all encoders' features, concatenated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import Decision, EncodeView, Fact, Points, View
from meteor_bench.methods.comp_token import CompToken
from meteor_bench.methods.fastervlm import FasterVLM
from meteor_bench.methods.shared.adaptive import AdaptiveScorer
from meteor_bench.methods.shared.helpers import round_half_up
from meteor_bench.methods.shared.selection import EncodeScorer
from meteor_bench.methods.svdprune import SVDPrune
from meteor_bench.methods.visionzip import VisionZip
from meteor_bench.methods.vispruner import VisPruner

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["EAdaPrune", "log_tail"]

Base = Literal["fastervlm", "visionzip", "vispruner", "svdprune", "comp-token"]
BASES: Mapping[Base, type[EncodeScorer]] = {
    "fastervlm": FasterVLM,
    "visionzip": VisionZip,
    "vispruner": VisPruner,
    "svdprune": SVDPrune,
    "comp-token": CompToken,
}


def log_tail(x: Tensor, visual: Tensor) -> Tensor:
    """[B, R] float64, R = min(N, D): log10 of the share of the energy that is missing from the k leading ranks.

    Descending in k = 0 … R - 1; at least -30, and -inf beyond the row's own R. The smallest k that holds a share tau is
    the number of entries above log10(1 - tau).
    """
    most = torch.minimum(visual.sum(1, keepdim=True), torch.full_like(visual[:, :1], x.shape[2], dtype=torch.long))
    f = x.double().masked_fill(~visual[..., None], 0.0)
    gram = f @ f.transpose(1, 2) if f.shape[1] <= f.shape[2] else f.transpose(1, 2) @ f
    energy = torch.linalg.eigvalsh(gram).clamp(min=0)  # ascending
    tail: Tensor = energy.cumsum(1).flip(1)  # what the ranks k, k + 1, … hold together
    tail = (tail / tail[:, :1].clamp(min=1e-300)).clamp(min=1e-30).log10()
    return tail.masked_fill(torch.arange(tail.shape[1], device=tail.device) >= most, -torch.inf)


def budget_of(rank: Tensor, most: Tensor, tokens: Tensor) -> Tensor:
    """[B, M] tokens to keep for ranks [B, M], of ``most`` [B] possible ones, of ``tokens`` [B]; at least one."""
    k = round_half_up(rank.double() * tokens[:, None] / most.clamp(min=1)[:, None])
    return torch.minimum(k.clamp(min=1), tokens[:, None])


@dataclass(frozen=True)
class EAdaPrune(AdaptiveScorer):
    """Attributes: base: the selector that keeps K(x) tokens; `average` and `block` are handed on to it."""

    base: Base = "fastervlm"

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2603.05950", stages=("encode",), needs=("attention",))
    title: ClassVar[str] = "e-adaprune"

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        """As the base selector."""
        return self.selector.ordered

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """The base selector's."""
        return self.selector.substitutes(vlm)

    @property
    def selector(self) -> EncodeScorer:
        """The base selector."""
        made = BASES[self.base]
        given = {"average": self.average, "block": self.block}
        return made(**{name: value for name, value in given.items() if hasattr(made, name)})  # type: ignore[arg-type]

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Those of the base selector."""
        try:
            return self.selector.points(vlm, budget)
        except UnsupportedError as error:
            raise UnsupportedError(f"e-adaprune with base={self.base}: {error}") from None

    def score(self, view: EncodeView) -> Tensor:
        """The base selector's."""
        return self.selector.score(view)

    def evidence(self, view: View, score: Tensor) -> Tensor:
        """The energy missing at each rank."""
        return log_tail(view.tokens.x, view.tokens.visual)

    def counts(self, values: Tensor, tokens: Tensor) -> Tensor:
        """K for each rank."""
        rank = torch.arange(values.shape[1] + 1).expand(len(values), -1)
        return budget_of(rank, (~values.isnan()).sum(1), tokens)

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """K(x) tokens by the base selector."""
        values, count = self.evidence(view, score), view.tokens.counts()
        rank, most = torch.stack([(values > self.threshold(view)).sum(1), (values > -torch.inf).sum(1)]).cpu()
        k = budget_of(rank[:, None], most, count)[:, 0]
        k = torch.where((share > 0) & (share < count), k, torch.minimum(share, count))
        return self.selector.choose(view, score, k)
