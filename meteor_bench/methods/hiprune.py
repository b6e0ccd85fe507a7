"""HiPrune: Training-Free Visual Token Pruning via Hierarchical Attention (ACL 2026, arXiv 2508.00553), section 3.

After the encoder, by the attention that tokens receive (mean over heads and all queries) in two of its blocks. Of T
tokens, ``round(alpha·T / 5)`` are anchors, the highest in the object block (the ninth of CLIP-L's 24); beside each
anchor its neighbours in the grid, left, right, above and below, stay as buffers; the rest are registers, the highest in
the last block among those not chosen. alpha is 0.1.

Deviations:

1. Neighbours are cell numbers plus and minus 1 and plus and minus the grid's width, held within the grid, as in the
   authors' code: at the end of a row the next cell is the first of the row below.
2. The object block is the one nearest to 9/24 of the encoder's depth. The authors' 16 of 32 for Qwen2.5-VL is not.
3. On a shared fusion each encoder's order (anchors, then buffers, then registers by attention) is made a score for the
   mean over encoders. Convolutional encoders have no blocks: the distance to the mean token takes the place of both
   attentions.
4. Several encoders and frames: see `methods.shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from meteor_bench.core.host import made_once, on_device, places
from meteor_bench.core.pruner import EncodeView, Fact, TowerAttention
from meteor_bench.core.rows import ordered
from meteor_bench.core.settings import Share
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.helpers import frame_shares
from meteor_bench.methods.shared.two_blocks import TwoBlockScorer

__all__ = ["HiPrune", "raised"]


def raised(anchors: Tensor, grid: Grid) -> Tensor:
    """[R, cells + 1] 2 for the cells of anchors, 1 for those beside one; what the last one has is of no use.

    Args:
        anchors: [R, A] long, cells; -1 for none.
        grid: of one frame.
    """
    out = torch.zeros(len(anchors), grid.n + 1, device=anchors.device)
    out.scatter_(1, _around(grid.w, grid.n, anchors.device)[anchors].flatten(1), 1.0)
    return out.scatter_(1, anchors % (grid.n + 1), 2.0)


@made_once(64)
def _around(width: int, cells: int, device: torch.device) -> Tensor:
    """[cells + 1, 4] long, the cells beside each cell; behind the last, where -1 leads, of what has none."""
    beside = (torch.arange(cells)[:, None] + torch.tensor([-1, 1, -width, width])).clamp(0, cells - 1)
    return on_device(torch.cat([beside, torch.full((1, 4), cells)]), device)


@dataclass(frozen=True)
class HiPrune(TwoBlockScorer):
    """Attributes are explained at the top of the file; see also `EncodeScorer`.

    Attributes:
        alpha: share of the budget that anchors and their neighbours are to take, if no two of them meet.
    """

    alpha: Share = 0.1

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2508.00553", stages=("encode",), needs=("attention",))
    statistic: ClassVar[TowerAttention | None] = "received"
    on_the_way: ClassVar[Fraction] = Fraction(9, 24)

    def score(self, view: EncodeView) -> Tensor:
        """The last block's attention; 1 more for a neighbour of an anchor, 2 more for an anchor."""
        last = super().score(view)  # each at most 1
        tokens = view.tokens
        shared = view.layout.fusion == "shared"
        share = view.target if shared else frame_shares(view)[view.tower]
        wanted = (share.double() * self.alpha / 5).round().long()
        wanted = torch.minimum(wanted, tokens.counts())
        shallow, most = self.earlier(view, last), int(wanted.max())
        if not tokens.plain:
            shallow = shallow.masked_fill(~tokens.visual, -torch.inf)
        anchors = ordered(shallow, True)[:, :most]
        anchors = anchors if tokens.whole else tokens.origin.gather(1, anchors)
        if not bool((wanted == most).all()):
            few = places(most, last.device) >= on_device(wanted, last.device)[:, None]
            anchors = anchors.masked_fill(few, -1)
        more = raised(anchors, tokens.grid)
        # Where a token has no cell, what it gets does not matter.
        return last + (more[:, :-1] if tokens.whole else more.gather(1, tokens.origin % more.shape[1]))
