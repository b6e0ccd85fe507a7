"""EvoPrune: Early-Stage Visual Token Pruning (arXiv 2603.03681), section 3. Training-free, inside the encoder.

In a merge layer: attention with its residual, merge r tokens, MLP. Even tokens a, odd tokens b; each i in a picks its
best j in b by ``Score = Sim·w_div·w_attn`` and the r best edges merge a into b.

- Sim: cosine, in [0, 1].
- ``d_i = 1 - (1/K)·sum over the K nearest k of exp(-|v_i - v_k|²/tau²)``, ``w_div = exp(-lambda_d·(d_i + d_j))``:
  isolated tokens are spared.
- ``s_i``: the attention a token receives; the ``N_protect = min(CTR·T_l, T_l - 2r)`` highest are protected: an edge
  that touches one is excluded.
- Schedule: of N tokens N - T are removed, spread evenly over every other layer ("skip").

Deviations. No code is public; these are our choices where the paper is silent, not the authors':

- v: hidden states after attention, L2-normalised; K = 5; lambda_d = 1; tau = the median distance to the K nearest, per
  image; merged tokens are size-weighted means; the class token takes no part; even and odd count the visual tokens of
  the current sequence; protection is decided anew at each merge layer.
- s_i is the mean over heads and queries of the attention received. (As printed it averages a softmax row, a constant.)
- Sim is clamped at 0 and edges are excluded after the product, so that no product decides about an excluded edge.
- N_protect is at least 0. Where too few legal sources are left, the rest is carried to the next merge layer; in the
  last one, protected tokens are merged as a last resort, so that the budget is exact.
- Merge layers of "skip" are blocks 0, 2, 4, … (`start`); "mean": all; "first", "last": that half of the blocks;
  "increasing", "decreasing": all, r growing or shrinking linearly.
- A layer merges at most half of its tokens: on CLIP-L with 12 merge layers 64 of 576 tokens can be reached and 32
  cannot. What `relax` does about it, and several encoders: see `shared.merging`. At a convolutional encoder's output
  the score has no attention term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.apply import take_rows
from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import EncodePoint, EncodeView, Fact, keep_top
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.merging import InsideMerger, Paired

__all__ = ["EvoPrune"]


@dataclass(frozen=True)
class EvoPrune(InsideMerger):
    """Attributes are explained at the top of the file.

    Attributes:
        attention: protect tokens that receive attention.
        diversity: spare isolated tokens.
        protect: CTR, the share of tokens that is protected.
        neighbours: K.
        strength: lambda_d.
        temperature: tau; 0 takes the median neighbour distance of the image.
    """

    schedule: Literal["skip", "mean", "first", "last", "increasing", "decreasing"] = "skip"
    attention: bool = True
    diversity: bool = True
    protect: Share = 0.25
    neighbours: Annotated[int, Range(least=1)] = 5
    strength: float = 1.0
    temperature: Annotated[float, Range(least=0)] = 0.0

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2603.03681", stages=("encode",), needs=("attention",))
    title: ClassVar[str] = "evoprune"

    def layer_point(self, after: Mapping[str, int]) -> EncodePoint:
        """Attention received in the block."""
        return EncodePoint(after=after, inside=True, attention="received" if self.attention else None)

    def pair(
        self, view: EncodeView | None, x: Tensor, visual: Tensor, count: Tensor, r: Tensor, final: Tensor | None
    ) -> Paired:
        """Even tokens to odd ones by the score; protected ones as a last resort in the last merge layer."""
        attention = view.attention if self.attention and view is not None else None
        rows, n, _ = x.shape
        most = int(count.max())
        alike = bool((count == most).all())  # no row has fewer tokens than another
        own = places(n, x.device).expand(rows, n)
        # Visual tokens first, in order; their places 0, 2, 4, … are a, places 1, 3, 5, … are b.
        order = own
        if not alike or most < n:
            order = (~visual).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        v = unit(x if order is own else take_rows(x, order))  # [R, M, D]
        likeness = v @ v.transpose(1, 2)
        present = None if alike else torch.arange(most, device=x.device) < on_device(count, x.device)[:, None]
        free = present  # not protected
        if attention is not None:
            quota = torch.minimum((self.protect * count.double()).long(), count - 2 * r).clamp(min=0)
            attention = attention if order is own else attention.gather(1, order)
            free = ~keep_top(attention, quota, present)
            free = free if present is None else free & present
        score = likeness[:, 0::2, 1::2].clamp(min=0)  # [R, A, B]
        if self.diversity:
            apart = self._isolation(likeness, present)
            score = score * torch.exp(-self.strength * (apart[:, 0::2, None] + apart[:, None, 1::2]))
        # Scores lie in [0, 1]; illegal edges come after all legal ones, impossible ones never.
        if free is not None:
            score = torch.where(free[:, 0::2, None] & free[:, None, 1::2], score, score - 2)
        if present is not None:
            score.masked_fill_(~(present[:, 0::2, None] & present[:, None, 1::2]), -torch.inf)
        into = own if present is None and order is own else own.masked_fill(~visual, -1)
        if score.shape[2] > 0:
            best, partner = score.max(2)  # [R, A], [R, A] place in b
            allowed = best >= (0 if final is None else _least(final, x.device))  # has a legal edge, or needs none
            source = order[:, 0::2]
            goal = order[:, 1::2].gather(1, partner)
            # What is not allowed comes last by itself. What is not visual stands in no edge and keeps its -1.
            chosen = keep_top(best, r, None) & allowed
            goal = torch.where(chosen, goal, source if into is own else into.gather(1, source))
            into = into.scatter(1, source, goal)
        return Paired(into)

    def _isolation(self, likeness: Tensor, present: Tensor | None) -> Tensor:
        """[R, M] d_i of M unit vectors with the cosines [R, M, M], of which each row's first are present (all)."""
        n = likeness.shape[1]
        square = torch.rsub(likeness, 2, alpha=2).clamp_(min=0)  # squared distances
        square.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        if present is not None:
            square.masked_fill_(~present[:, None], torch.inf)
        k = min(self.neighbours, n)
        near = square.topk(k, dim=2, largest=False).values  # [R, M, K]
        if present is None and k < n:  # every one of them is real
            if self.temperature > 0:
                return 1 - torch.exp(-near / self.temperature**2).sum(2) / k
            tau2 = near.sqrt().flatten(1).median(1).values.square().clamp(min=1e-12)
            return 1 - torch.exp(-near / tau2[:, None, None]).sum(2) / k
        real = near.isfinite() if present is None else near.isfinite() & present[..., None]
        if self.temperature > 0:
            tau2 = near.new_full((len(near),), self.temperature**2)
        else:
            distance = near.sqrt().masked_fill(~real, torch.nan)
            tau2 = distance.flatten(1).nanmedian(1).values.nan_to_num(1.0).square().clamp(min=1e-12)
        close = torch.exp(-near / tau2[:, None, None]).masked_fill(~real, 0.0)
        return 1 - close.sum(2) / real.sum(2).clamp(min=1)


def _least(final: Tensor, device: torch.device) -> Tensor | float:
    """What a source's best score must reach: 0 where it needs a legal edge, -2 in a row's last merge layer."""
    least = torch.where(final, -2.0, 0.0)
    return on_device(least, device)[:, None] if bool((final != final[0]).any()) else float(least[0])
