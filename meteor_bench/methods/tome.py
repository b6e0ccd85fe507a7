"""ToMe: Token Merging: Your ViT But Faster (ICLR 2023, arXiv 2210.09461), section 3. Training-free, inside the encoder.

In every block: attention with its residual, merge r tokens, MLP. The sequence's tokens at even places are set A, those
at odd places set B. Each token of A has its best partner in B by the cosine similarity of their keys (averaged over
heads); the r best edges merge A's token into B's: the mean weighted by the number of patches that a token stands for.
The class token takes a place and is never merged. From then on the logarithm of a token's size is added to the
attention logits (`proportional`), so that it counts as the patches it stands for. r is constant. What is left of A
stands before B, as in the authors' code, in the order it had where there is a class token, otherwise most similar
first; the next block's sets follow that order.

Deviations:

- `order` = spatial keeps tokens in spatial order, so that from the second merge layer on A and B, and with them the
  groups, are others than the authors'.
- Tokens leave the encoder in spatial order: no language model comes behind the authors'. Class and register tokens
  stand first in the sequence; of equal similarities the lower place comes first.
- r follows from the budget: N - T removed, spread evenly over all blocks; "decreasing" is the authors' other schedule.
- A block merges at most half of its tokens (the authors': half of the tokens that are not special).
- What `relax` does where the target is out of reach, and several encoders: see `shared.merging`. At a tower's output
  there are no keys, its features take their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import made_once, on_device, places
from meteor_bench.core.pruner import EncodePoint, EncodeView, Fact, keep_top
from meteor_bench.core.rows import ordered
from meteor_bench.core.seats import Seats
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.merging import InsideMerger, Paired
from meteor_bench.methods.shared.orders import AuthorsOrder
from meteor_bench.methods.shared.pairs import BY_SCORE, IN_PLACE, ODD_LAST, seats

__all__ = ["ToMe"]


@dataclass(frozen=True)
class ToMe(AuthorsOrder, InsideMerger):
    """Attributes: see `InsideMerger`; the defaults are the paper's.

    Attributes:
        order: authors, or spatial: how tokens stand after a merge, which decides the next one's sets.
    """

    fact: ClassVar[Fact] = Fact(year=2023, paper="arXiv 2210.09461", stages=("encode",), needs=("keys",))
    title: ClassVar[str] = "tome"
    proportional: ClassVar[bool] = True

    def layer_point(self, after: Mapping[str, int]) -> EncodePoint:
        """The block's keys."""
        return EncodePoint(after=after, inside=True, keys=True)

    def leaves(self, view: EncodeView) -> Tensor | None:
        """Spatial order."""
        return view.tokens.origin.clamp(min=0) if self.order == "authors" else None

    def seats(self, view: EncodeView, count: Tensor, r: int, final: Tensor) -> Seats | None:
        """The same, where not more than a class token stands before the others."""
        heads = view.tokens.heads or 0
        in_place = self.order == "spatial"
        if heads > 1 or (heads and not (in_place or view.has_cls)):
            return None
        v, n = unit(view.compared), view.tokens.x.shape[1]
        best, partner = (v[:, 0::2] @ v[:, 1::2].transpose(1, 2)).max(2)
        if heads:  # it takes a place, and is the last to be merged, which never comes to pass
            best[:, 0] = -torch.inf
        order = IN_PLACE if in_place else ODD_LAST if view.has_cls else BY_SCORE
        return Seats(seats(best, partner, n, r, order, 0), n - r, in_place, heads)

    def pair(
        self, view: EncodeView | None, x: Tensor, visual: Tensor, count: Tensor, r: Tensor, final: Tensor | None
    ) -> Paired:
        """The r best edges from even to odd places."""
        metric = x if view is None or view.keys is None else view.keys
        rows, n, _ = metric.shape
        own = places(n, x.device).expand(rows, n)
        full = bool((count == n).all())  # at an output the sequence has holes: what takes part comes first
        order = own if full or final is not None else ordered(visual, True)
        v = unit(metric if order is own else take_rows(metric, order))
        score = v[:, 0::2] @ v[:, 1::2].transpose(1, 2)  # [R, A, B]
        possible: Tensor | None = None
        if not full:
            here = visual if order is own else visual.gather(1, order)
            possible = here[:, 0::2, None] & here[:, None, 1::2]
            score = score.masked_fill(~possible, -torch.inf)
        into, keys = own, None
        if score.shape[2] > 0:
            best, partner = score.max(2)  # [R, A]
            by_score = ordered(best, True) if possible is None else None
            merged = keep_top(best, r, None if possible is None else possible.any(2), by_score)
            source = order[:, 0::2]
            goal = order[:, 1::2].gather(1, partner)
            into = into.scatter(1, source, torch.where(merged, goal, source))
            if self.order == "authors" and view is not None:
                keys = _keys(best, by_score, view.has_cls, own, r)
        return Paired(into if full else torch.where(visual, into, -torch.ones_like(into)), keys, exact=True)


@made_once(256)
def _odd_last(count: int, device: torch.device) -> Tensor:
    """[N] sort keys that bring the odd places behind the even ones; not to be written to."""
    own = places(count, device)
    return torch.where(own % 2 == 0, own, count + own)


def _keys(best: Tensor, by_score: Tensor | None, has_cls: bool, own: Tensor, r: Tensor) -> Tensor:
    """[R, N] sort keys of the authors' order.

    Args:
        best: [R, A] similarity of each even token to its partner.
        by_score: [R, A] their order by it, where it is there already.
        has_cls: whether the encoder has a class token: then even tokens keep their order.
        own: [R, N] places.
        r: [R] merges, on the CPU; without any the row stays as it is.
    """
    n = own.shape[1]
    moved = _odd_last(n, own.device).expand_as(own)
    if not has_cls:
        if by_score is None:
            by_score = ordered(best, True)
        moved = moved.clone()
        moved[:, 0::2].scatter_(1, by_score, own[:, : best.shape[1]])
    if bool((r > 0).all()):
        return moved
    return torch.where(on_device(r > 0, own.device)[:, None], moved, own)
