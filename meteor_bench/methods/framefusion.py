"""FrameFusion: Combining Similarity and Importance for Video Token Reduction (ICCV 2025, arXiv 2501.01986), section 4.

In the first layers of the language model. Of the tokens that stand at one position of the picture in all frames,
neighbours in time (among those that are still there) whose hidden states are at least 0.6 alike (cosine) are merged:
a chain of them becomes its first one, the plain mean of all. This is done before layer after layer until one merges
less than 10 % of the tokens there, or the budget is met: then only the most alike are merged, down to the budget.
Before the layer after that, those with the most attention stay. A picture has no neighbours in time: it is pruned by
attention alone, before layer 1. Positions are kept.

Deviations:

1. The authors' budget is a mean cost over layers, 0.3 of the unpruned one, from which the pruned number follows; here
   exactly T tokens are left after the last point, whatever the first layers merged.
2. They merge before layer 0 and then between attention and MLP of each layer; here before layers 0 (that is, among the
   projected tokens) to `merges` - 1, and the attention decides before layer `merges` at the latest.
3. Their importance is the attention that a token gets from all tokens, averaged over heads; here from all prompt tokens
   behind the image.
4. Like theirs, a mean does not count what its tokens already stand for.
5. Tokens of several encoders (independent fusion) are compared within each and ranked in one list; before layer 0 each
   is merged down to no less than its share of the budget, in proportion to the token counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import (
    Decision,
    DecodePoint,
    DecodeView,
    Fact,
    FusePoint,
    FuseView,
    Points,
    Pruner,
    keep_top,
)
from meteor_bench.core.rows import ordered
from meteor_bench.core.settings import Range, Share
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.shared.clips import as_clip
from meteor_bench.methods.shared.helpers import per_tower, unit

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["FrameFusion"]

STATE = "framefusion.merging"


@dataclass(frozen=True)
class FrameFusion(Pruner):
    """Attributes are explained at the top of the file.

    Attributes:
        alike: the least cosine of two tokens that are merged.
        enough: the share of tokens below which merging ends.
        merges: layers before which tokens may be merged, from layer 0 on.
    """

    alike: Annotated[float, Range(least=-1, most=1)] = 0.6
    enough: Share = 0.1
    merges: Annotated[int, Range(least=1)] = 3

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2501.01986", stages=("fuse", "decode"), needs=("attention",))
    positions: ClassVar[Literal["keep", "renumber"]] = "keep"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The language model's input, then before its first layers, one after another."""
        if self.merges >= vlm.decoder.depth:
            raise UnsupportedError(
                f"framefusion with merges={self.merges} needs a deeper language model than '{vlm.name}' "
                f"({vlm.decoder.depth} layers); take at most {vlm.decoder.depth - 1}"
            )
        layers = range(1, self.merges + 1)
        return Points(fuse=FusePoint(), decode=tuple(DecodePoint(before=layer, attention="text") for layer in layers))

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """The first merge."""
        return per_tower(views, self._first)

    def _first(self, view: FuseView, share: Tensor) -> Decision:
        tokens = as_clip(view).tokens
        counts = tokens.counts()
        if tokens.grid.t == 1 or not bool((counts > share).any()):
            return Decision(keep=tokens.visual)
        into, number = self._merged(tokens, [tokens.grid], counts - share)
        return Decision(
            keep=tokens.visual & (into == places(into.shape[1], into.device)),
            merge_into=into,
            weight=torch.ones_like(tokens.size),
            count=counts - number,
        )

    def decode(self, view: DecodeView) -> Decision:
        """Merge while that is worth it, then prune."""
        tokens, target = view.tokens, view.target
        own, counts = places(tokens.x.shape[1], tokens.x.device), tokens.counts()
        over = counts > target
        if not bool(over.any()):
            return Decision(keep=tokens.visual)
        if STATE in view.memo:
            merging = view.memo[STATE].cpu()
        else:  # before layer 1: what the first merge did is seen from what is left
            merging = tokens.grid.n - counts >= self.enough * tokens.grid.n
        merging = merging & over & (view.point < self.merges - 1)
        pruning = ~merging & over
        keep, into, left, score = tokens.visual, own.expand_as(tokens.visual), counts, None
        if bool(merging.any()):
            room = torch.where(merging, counts - target, 0)
            into, number = self._merged(tokens, _grids(view), room)
            keep, left = keep & (into == own), counts - number
            merging = merging & (number >= self.enough * counts)  # else prune from the next layer on
        if bool(pruning.any()):
            score = _attention(view)
            keep = keep & keep_top(score, torch.where(pruning, target, counts), view.candidates)
            left = torch.where(pruning, target, left)
        return Decision(
            keep=keep,
            merge_into=torch.where(keep.gather(1, into), into, -1),
            weight=torch.ones_like(tokens.size),
            score=score,
            count=left,
            memo={STATE: on_device(merging, tokens.x.device)},
        )

    def _merged(self, tokens: Tokens, grids: Sequence[Grid], room: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N] the token that each one ends in, and [B] on the CPU how many go.

        Args:
            grids: whose cells the tokens are, one after another.
            room: [B] on the CPU, the most that may go.
        """
        x, visual = tokens.x, tokens.visual
        b, n = visual.shape
        own, device = places(n, x.device), x.device
        place, time = _places_and_times(grids)
        spot, when = (on_device(t, device)[tokens.origin.clamp(min=0)] for t in (place, time))
        spot = spot.masked_fill(~visual, len(place))
        order = ordered(spot * (len(time) + 1) + when, False)  # position after position, in time
        v, spot = unit(take_rows(x, order)), spot.gather(1, order)
        likeness = torch.full((b, n), -2.0, device=device)
        near = (v[:, 1:] * v[:, :-1]).sum(2)
        likeness[:, 1:] = near.masked_fill((spot[:, 1:] != spot[:, :-1]) | (spot[:, 1:] == len(place)), -2.0)
        goes = likeness >= self.alike
        number = goes.sum(1).cpu()
        if bool((number > room).any()):  # the most alike, down to the budget
            number = torch.minimum(number, room.clamp(min=0))
            goes = keep_top(likeness, number, None)
        first = torch.where(goes, -1, own).cummax(1).values  # of a chain
        into = torch.empty_like(order).scatter_(1, order, order.gather(1, first.clamp(min=0)))
        return into, number


def _grids(view: DecodeView) -> Sequence[Grid]:
    """Whose cells the language model's visual tokens are."""
    return [view.tokens.grid] if view.layout.fusion == "shared" else list(view.layout.grids.values())


def _attention(view: DecodeView) -> Tensor:
    """[B, N] mean over heads and prompt tokens."""
    return view.attention.float().mean(1).sum(1) / view.text_valid.sum(1).clamp(min=1)[:, None]


def _places_and_times(grids: Sequence[Grid]) -> tuple[Tensor, Tensor]:
    """[G] of each cell on the CPU: its position in the picture, numbered through the encoders, and its frame."""
    spots, times, before = [], [], 0
    for g in grids:
        cell = torch.arange(g.n)
        spots.append(before + cell % (g.h * g.w))
        times.append(cell // (g.h * g.w))
        before += g.h * g.w
    return torch.cat(spots), torch.cat(times)
