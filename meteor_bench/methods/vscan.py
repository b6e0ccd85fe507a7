"""VScan: Rethinking Visual Token Reduction for Efficient LVLMs (TMLR 2026, arXiv 2505.22654), section 3.

Two stages. Before the language model, 3·T tokens: half of them local, the same number from each of 4 × 4 windows of the
grid by the class token's attention in a shallow block (the sixth of CLIP-L's 24), the others global, by its attention
in the last block. Each of the rest joins the chosen token that is most like it once projected, whose features become
the plain mean of all that joined and itself. In the middle of the language model (before layer 16 of 32) the tokens are
ranked by the attention of the last prompt token, averaged over heads; T stay.

Read beside the authors' code (Tencent/SelfEvolvingAgent, a82450e, not copied).

Deviations:

1. The published pairs (96, 32) and (288, 96) are 3·T and T; `first` is that factor, and N the most.
2. Where 16 does not divide the local half, the authors' code keeps fewer than 3·T; here the global choice fills up.
3. Windows that a grid cannot be cut into evenly differ by a row or a column. The shallow block and the layer are those
   nearest to 6/24 and 1/2 of the depth.
4. On a shared fusion each encoder's order (local, then global, then the rest by attention) is made a score for the mean
   over encoders. Several encoders, frames, encoders without a class token or attention: see `methods.shared.selection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.host import made_once, on_device
from meteor_bench.core.pruner import (
    Decision,
    DecodePoint,
    DecodeView,
    EncodeView,
    Fact,
    FuseView,
    Points,
    TowerAttention,
    View,
    keep_top,
)
from meteor_bench.core.settings import Range
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.helpers import (
    depth_points,
    frame_shares,
    more_than_target,
    nearest_kept,
    one_each,
    widened,
)
from meteor_bench.methods.shared.picks import best_of_groups
from meteor_bench.methods.shared.two_blocks import TwoBlockScorer

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["VScan", "windows"]

SIDE = 4  # windows along each side of the grid
MIDDLE = Fraction(1, 2)


def windows(grid: Grid) -> Tensor:
    """[cells of a frame] index of the window that each cell lies in, row by row."""
    row = torch.arange(grid.h) * SIDE // grid.h
    col = torch.arange(grid.w) * SIDE // grid.w
    return (row[:, None] * SIDE + col).flatten()


@made_once(64)
def _windows_there(grid: Grid, device: torch.device) -> Tensor:
    return on_device(windows(grid), device)


@dataclass(frozen=True)
class VScan(TwoBlockScorer):
    """Attributes are explained at the top of the file; see also `EncodeScorer`.

    Attributes:
        first: tokens that the language model gets, as a multiple of the budget.
    """

    first: Annotated[float, Range(least=1)] = 3.0

    fact: ClassVar[Fact] = Fact(
        year=2026, paper="arXiv 2505.22654", stages=("encode", "fuse", "decode"), needs=("attention",)
    )
    statistic: ClassVar[TowerAttention | None] = "cls"
    on_the_way: ClassVar[Fraction] = Fraction(6, 24)
    projected: ClassVar[bool] = True

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Two blocks of the encoders, the projected tokens, the middle of the language model."""
        (layer,) = depth_points(self.title, vlm, (MIDDLE,))
        points = super().points(vlm, budget)
        return replace(points, decode=(DecodePoint(before=layer, attention="last"),))

    def score(self, view: EncodeView) -> Tensor:
        """The last block's attention; 1 more for a global choice, 2 more for a local one."""
        last = super().score(view)  # each at most 1
        tokens, device = view.tokens, last.device
        wider = view.changed(target=more_than_target(view, self.first))
        share = wider.target if view.layout.fusion == "shared" else frame_shares(wider)[view.tower]
        share = torch.minimum(share, tokens.counts())
        each = (share // 2 // SIDE**2)[:, None].expand(-1, SIDE**2)
        window = _windows_there(tokens.grid, device)
        if tokens.whole:
            window = window.expand_as(last)
        else:
            window = window[tokens.origin.clamp(min=0)].masked_fill(~tokens.visual, SIDE**2)
        local = best_of_groups(self.earlier(view, last), window, each)
        # What a window with fewer tokens than its part leaves goes to the global choice.
        if tokens.whole:
            left = share - torch.minimum(each, windows(tokens.grid).bincount(minlength=SIDE**2)).sum(1)
        else:
            left = on_device(share, device) - local.sum(1)
        chosen = keep_top(last, left, ~local if tokens.plain else tokens.visual & ~local)
        return torch.add(last + chosen, local, alpha=2)

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Choose more than the budget; the rest of the work is the language model's."""
        return super().fuse(widened(views, self.first))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """The chosen ones take in what is most like them."""
        keep = keep_top(score, share, view.candidates)
        into = nearest_kept(view.tokens.x, keep, view.candidates)
        weight, taken = one_each(view.tokens), bool((share > 0).all())  # every token ends in another
        return Decision(keep=keep, merge_into=into, weight=weight, score=score, count=share, total=taken)

    def decode(self, view: DecodeView) -> Decision:
        """What the last prompt token looks at."""
        score = view.attention.float().mean(1)[:, 0]
        return Decision(keep=keep_top(score, view.target, view.candidates), score=score, count=view.target)
