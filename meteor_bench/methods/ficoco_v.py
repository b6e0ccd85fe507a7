"""FiCoCo-V: Filter, Correlate, Compress (AAAI 2026, arXiv 2411.17686), section 3. Training-free, inside the encoder.

In the blocks of the encoder's second half, between attention and MLP, r tokens merge away. Z is the attention's logits
before the softmax, averaged over heads. Filter: patches are redundant that the class token looks for least and that
look for other patches most, ``local·unit(Z_cls,i) - (1 - local)·unit(mean over j of Z_ij)`` (unit: the vector over all
patches scaled to length 1; 0.35), the lowest first; in each 2 x 2 window of the grid the lowest is made more redundant
still (halved if above 0, doubled below). Correlate: a source goes to the tokens of its row of Z above the row's 0.998
quantile. Compress: a target t becomes ``(t + sum of w_st·s) / (1 + sum of w_st)``, w the softmax of the source's logits
over its targets.

Deviations:

1. In the authors' code a score that is kept between images takes part in Filter; here an image's result is its own.
2. There, targets are any tokens, counted before those merged away are taken out, so that some features end up in the
   wrong token or in one that is dropped; here targets are patches that stay, and the quantile is over those. There,
   what stays is put in the order of its score, the class token behind all, so that from the second merge on the first
   patch is taken for the class token; here nothing is moved.
3. There, every source has as many targets as the one with most above its quantile; here each has its own, at least
   the highest.
4. r follows from the budget: N - T spread evenly over the second half of the blocks (authors: 42 of 576 in each of
   CLIP-L's last twelve, of which LLaVA runs eleven). A block merges at most half of its tokens; what `relax` does, and
   several encoders: see `shared.merging`. A token's group, which counts on a shared fusion and in pictures, is that of
   its best target.
5. An encoder without a class token: the mean over all queries takes the place of Z_cls. At an encoder's output there
   are no logits: cosines of the features take their place, without the class token's part. Windows at the border of an
   odd grid are smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import places, upload
from meteor_bench.core.pick import kept_places
from meteor_bench.core.pruner import EncodePoint, EncodeView, Fact, Points, keep_top
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.merging import InsideMerger, Paired

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["FiCoCoV"]


@dataclass(frozen=True)
class FiCoCoV(InsideMerger):
    """Attributes are explained at the top of the file; see also `InsideMerger`.

    Attributes:
        local: share of the class token's part in redundancy.
        quantile: of a source's row, above which its targets are.
        penalty: make one token of each window more redundant.
    """

    schedule: Literal["skip", "mean", "first", "last", "increasing", "decreasing"] = "last"
    local: Share = 0.35
    quantile: Annotated[float, Range(least=0, most=1)] = 0.998
    penalty: bool = True

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2411.17686", stages=("encode",), needs=("logits",))
    title: ClassVar[str] = "ficoco-v"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Only where every sequence encoder's logits can be read."""
        found = super().points(vlm, budget)
        for name, tower in vlm.towers.items():
            if tower.depth > 0 and not tower.opens:
                raise UnsupportedError(
                    f"ficoco-v reads attention's logits; encoder '{name}' of '{vlm.name}' does not give them"
                )
        return found

    def _blocks(self, depth: int) -> list[int]:
        """Those of the second half without a block in the middle, as of the 23 blocks that LLaVA runs of 24."""
        return (
            [*range((depth + 1) // 2 + 1, depth + 1)]
            if self.schedule == "last" and depth > 1
            else super()._blocks(depth)
        )

    def layer_point(self, after: Mapping[str, int]) -> EncodePoint:
        """The block's logits."""
        return EncodePoint(after=after, inside=True, logits=True)

    def pair(
        self, view: EncodeView | None, x: Tensor, visual: Tensor, count: Tensor, r: Tensor, final: Tensor | None
    ) -> Paired:
        """The r most redundant patches, each into all of its targets."""
        if view is None or view.logits is None:
            v = unit(x)
            logits = v @ v.transpose(1, 2)
            score = -_sum_over(logits, visual)
        else:
            logits = view.logits
            score = self.local * _unit_over(_of_class(view, logits), visual)
            score = score - (1 - self.local) * _unit_over(_sum_over(logits, visual), visual)
            if self.penalty:
                score = _penalised(score, view)
        source = keep_top(-score, r, visual)
        stays = visual & ~source
        edges = logits.masked_fill(~stays[:, None], -torch.inf)  # [R, N, N]
        left = (count - r).tolist()
        # As many as there are above a quantile of n numbers, linear between two of them.
        many = [max(1, n - 1 - int(self.quantile * (n - 1))) for n in left]
        best, target = edges.topk(max(1, min(max(many), edges.shape[2])), dim=2)
        own = places(visual.shape[1], visual.device)
        into = torch.where(source, target[:, :, 0], own)
        into = into if view is not None and view.tokens.plain else into.masked_fill(~visual, -1)
        if view is None:
            return Paired(into, exact=True)
        if len(set(many)) > 1:
            past = places(best.shape[2], best.device) >= upload(many, best.device)[:, None]
            best = best.masked_fill(past[:, None], -torch.inf)
        share = best.softmax(2).masked_fill(~source[..., None], 0.0)
        onto = torch.zeros_like(edges).scatter_(2, target, share).transpose(1, 2)  # [R, targets, sources]
        onto = onto + torch.eye(len(own), device=onto.device)
        at = kept_places(stays, max(left), ragged=len(set(left)) > 1)
        onto = take_rows(onto, at)
        return Paired(into, mix=onto / onto.sum(2, keepdim=True), exact=True)


def _of_class(view: EncodeView, logits: Tensor) -> Tensor:
    """[R, N] what the class token looks for; without one the mean over all queries."""
    valid = view.tokens.valid
    if view.has_cls:
        first = view.tokens.special.to(torch.uint8).argmax(1)
        return logits[places(len(logits), logits.device), first]
    return (logits * valid[:, :, None]).sum(1) / valid.sum(1).clamp(min=1)[:, None]


def _sum_over(logits: Tensor, visual: Tensor) -> Tensor:
    """[R, N] the sum of each row over the patches, a mean but for its length."""
    return logits.masked_fill(~visual[:, None], 0.0).sum(2)


def _unit_over(values: Tensor, visual: Tensor) -> Tensor:
    """[R, N] scaled to length 1 over the patches, nothing elsewhere."""
    return F.normalize(values.masked_fill(~visual, 0.0), dim=1, eps=1e-12)


def _penalised(score: Tensor, view: EncodeView) -> Tensor:
    """The lowest score of each 2 x 2 window made lower still; of equals the first."""
    tokens, grid = view.tokens, view.tokens.grid
    across = (grid.w + 1) // 2
    cell = tokens.origin.clamp(min=0)
    window = cell // grid.w // 2 * across + cell % grid.w // 2
    count = across * ((grid.h + 1) // 2)
    window = torch.where(tokens.visual, window, count)  # one more for what is no patch
    low = torch.full((len(score), count + 1), torch.inf, device=score.device)
    low = low.scatter_reduce(1, window, score, reduce="amin").gather(1, window)
    n = score.shape[1]
    place = places(n, score.device).expand_as(score)
    first = torch.full((len(score), count + 1), n, device=score.device)
    first = first.scatter_reduce(1, window, torch.where(score == low, place, n), reduce="amin").gather(1, window)
    lowest = (place == first) & tokens.visual
    return torch.where(lowest, torch.where(score > 0, score / 2, score * 2), score)
