"""EarlyTom: early compression of whole frames (CVPR 2026, arXiv 2605.30010). Training-free, for video.

Inside the encoder, after three of its blocks, whole frames merge. How alike two frames are is the mean cosine of tokens
at the same place. A clip is walked through: the run goes on while a moving average (0.9 of the newest) of how alike
each frame is to the run's first is at least `threshold`, and the run is shorter than `window` - 1. The first and the
last frame of a run stay. Of those between, a frame and the next merge if they are more alike than first and last are,
and more than the next and the one after it: at each place ``w·a + (1 - w)·b``, w the first of these two likenesses
over their sum (1 for the last pair, and where the second is not above 0, for which the authors' code has no weight
between 0 and 1). Before the language model each frame that is left gives equally many tokens: the first and the last of
a run those with the most attention, those between the one with the most attention of each of so many equal pieces of
the frame. Runs are those of what the last merge leaves; attention is what a token receives in the block before it, of
merged tokens the same mean as of their features. In the language model (before layer 18 of 28) the half stays that the
last prompt token attends to most, and every other one is merged into the most similar of them (cosine).

Deviations:

1. In the authors' code a frame that ends a run's middle without a partner is lost: `official_quirks`. Here it stays.
2. The authors set blocks, threshold and window for each benchmark and ratio in their scripts; here they are their
   code's defaults: the blocks at 7/26, 22/26 and 24/26 of the depth, 0.6 and 8.
3. Their counts are rounded per frame; here `first`·T before the language model and T behind it are exact. Frames stop
   merging where fewer than those tokens would be left.
4. In the language model a token becomes the plain mean of itself and all that it takes in. The authors' code halves
   what is there with each newcomer: `official_quirks`. Their clustering of what attention leaves over has a share of 0
   in their scripts, and is left out.
5. Several encoders merge each on its own. On a shared fusion frames that have merged in the encoder with the most
   tokens are averaged for all and stand in the earlier one; attention is averaged, see `methods.shared.selection`, and
   runs are cut once more, on the projected tokens. An encoder without blocks merges nothing, and its clips are cut so,
   too. A picture, and its tiles, are runs of one frame: attention alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from math import ceil, floor
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device, places, upload
from meteor_bench.core.pruner import (
    Decision,
    DecodePoint,
    DecodeView,
    EncodePoint,
    EncodeView,
    Fact,
    FuseView,
    Points,
    TowerAttention,
    View,
)
from meteor_bench.core.settings import Range, Share
from meteor_bench.core.tokens import Tokens
from meteor_bench.methods.shared.clips import Clip, ClipScorer, clip_of, decided, on_clip
from meteor_bench.methods.shared.groups import leaders, on_grid
from meteor_bench.methods.shared.helpers import depth_points, divide, widened
from meteor_bench.methods.shared.late import taken_in
from meteor_bench.methods.shared.picks import best_of_groups
from meteor_bench.methods.shared.whole_frames import alike_frames, carried_out, merges, walked

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["EarlyTom"]

BLOCKS = (Fraction(7, 26), Fraction(22, 26), Fraction(24, 26))
LATE = Fraction(18, 28)


@dataclass(frozen=True)
class EarlyTom(ClipScorer):
    """Attributes are explained at the top of the file; see also `EncodeScorer`.

    Attributes:
        threshold: least moving average of likeness to a run's first frame.
        window: frames at which a run is cut.
        memory: what the newest frame counts in the average.
        first: tokens that the language model gets, as a multiple of the budget.
        official_quirks: lose frames, and halve with each newcomer in the language model, as the authors' code does.
    """

    threshold: Annotated[float, Range(least=-1, most=1)] = 0.6
    window: Annotated[int, Range(least=2)] = 8
    memory: Share = 0.9
    first: Annotated[float, Range(least=1)] = 2.0
    official_quirks: bool = False

    fact: ClassVar[Fact] = Fact(
        year=2026, paper="arXiv 2605.30010", stages=("encode", "fuse", "decode"), needs=("attention",)
    )
    statistic: ClassVar[TowerAttention | None] = "received"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """After three blocks, at the outputs, before and inside the language model."""
        (layer,) = depth_points(self.title, vlm, (LATE,))
        base = super().points(vlm, budget)
        blocks = []
        for name, tower in vlm.towers.items():
            after = {min(tower.depth - 1, max(1, floor(share * tower.depth + Fraction(1, 2)))) for share in BLOCKS}
            blocks.append([(name, block) for block in sorted(after, reverse=True) if block > 0])
        # The last ones together, for only they are asked for attention.
        steps = [EncodePoint(after=dict(filter(None, step))) for step in zip_longest(*blocks)][::-1]
        ends = list(base.encode)
        if steps:
            steps[-1] = replace(steps[-1], attention="received")
            if all(blocks):
                ends[-1] = replace(ends[-1], attention=None)
        late = DecodePoint(before=layer, attention="last")
        return replace(base, encode=(*steps, *ends), decode=(late,), clips=True)

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Merge frames on the way, only score at the outputs."""
        depths = next(iter(views.values())).layout.depths
        steps = {name: view for name, view in views.items() if view.layer < depths[name]}
        return {name: self._merge(view) for name, view in steps.items()} if steps else super().encode(views)

    def score(self, view: EncodeView) -> Tensor:
        """The attention received at the last merge, 1 more in frames that are no run's middle."""
        cells = view.memo.get(_name(view))
        if cells is None:
            return super().score(view)
        if view.tokens.whole:
            return cells
        return cells.gather(1, view.tokens.origin.clamp(min=0)).masked_fill(~view.tokens.visual, 0.0)

    def _merge(self, view: EncodeView) -> Decision:
        """Frames of whole clips; waits for the device once a clip, at the last merge twice."""
        tokens, frames, attention = view.tokens, view.frames, view.attention
        clips, count, device = len(tokens.x), tokens.grid.t, tokens.x.device
        kept = torch.zeros(clips, count, dtype=torch.bool)
        goes = torch.arange(count).repeat(clips, 1)  # the frame that each one ends in
        partner = goes.clone()  # the one that counts in it besides itself
        weight, ends = torch.ones(clips, count), torch.ones(clips, count)  # ends: 0 in a run's middle
        for b in range(clips if frames is not None else 0):
            assert frames is not None
            rows = [r for r, row in enumerate(frames.rows) if row // count == b]
            live = [frames.rows[r] % count for r in rows]
            kept[b, live] = True
            # A frame is there as a whole, or not at all.
            x = frames.tokens.x[:, frames.tokens.host[0].special :].index_select(0, upload(rows, device)).float()
            part = min(1.0, self.first * int(view.target[b]) / int(view.reference[b]))
            spare, alike = len(live) - ceil(count * part), alike_frames(x)
            for run in walked(alike, *self._walk):
                for merge in merges(alike, run, lose=self.official_quirks)[: max(0, spare)]:
                    frame, other, share = live[merge.frame], live[merge.other], merge.weight
                    kept[b, other], goes[b, other], spare = False, frame, spare - 1
                    if share < 1:
                        weight[b, frame], partner[b, frame] = share, other
                    weight[b, other] = 1 - share
            if attention is not None:
                left = kept[b].nonzero()[:, 0]
                first, second = (
                    upload([live.index(f) for f in at.tolist()], device) for at in (left, partner[b, left])
                )
                own = on_device(weight[b, left], device)[:, None, None]
                for run in walked(alike_frames(own * x[first] + (1 - own) * x[second]), *self._walk):
                    ends[b, left[list(run[1:-1])]] = 0.0
        memo = {}
        if attention is not None:
            cells = _on_cells(tokens, attention.float())
            if frames is not None:
                counts = on_device(weight, device)[..., None]
                cells = counts * cells + (1 - counts) * take_rows(cells, on_device(partner, device))
            memo = {_name(view): (cells + on_device(ends, device)[..., None]).flatten(1)}
        if frames is None:
            return Decision(keep=tokens.visual, memo=memo)
        return replace(carried_out(tokens, kept, goes, weight), memo=memo)

    @property
    def _walk(self) -> tuple[float, int, float]:
        return self.threshold, self.window, self.memory

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """More than the budget; the rest of the work is the language model's."""
        return super().fuse(widened(views, self.first))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Equally many of each frame that is left."""
        tokens = view.tokens
        clip = clip_of(tokens)
        b, count, each = clip.shape
        merged = None
        if isinstance(view, FuseView) and view.tower == "fused" and clip.seat is None and count > 1:
            merged = _merged_groups(view)
        if merged is not None:
            here = (merged == places(count * each, merged.device)).view(b, count, each)
            clip = clip._replace(there=here, known=here.cpu())
        salience = on_clip(clip, score).flatten(1)
        sizes = clip.known.sum(2)  # [B, F]
        given = divide(share, sizes.double(), sizes)
        if count == 1:
            middle = torch.zeros(b, 1, dtype=torch.bool)
        elif isinstance(view, FuseView) and view.tower in view.scores and view.layout.depths[view.tower] > 1:
            middle = (salience.view(b, count, each).amax(2) < 1).cpu() & clip.known.any(2)
        else:
            middle = self._middle(clip)
        group = torch.arange(count)[:, None].expand(b, count, each).masked_fill(~clip.known, count)
        keep = best_of_groups(salience, on_device(group.flatten(1), salience.device), given.masked_fill(middle, 0))
        for row, frame in middle.nonzero().tolist():
            cells = clip.known[row, frame].nonzero()[:, 0] + frame * each
            pieces = cells.tensor_split(int(given[row, frame])) if given[row, frame] > 0 else ()
            for piece in pieces:
                at = on_device(piece, salience.device)
                keep[row, at[salience[row, at].argmax()]] = True
        into = None
        if merged is not None:
            into = torch.where(keep.gather(1, merged), merged, -1)
        return decided(tokens, clip, keep, share, into=into)

    def _middle(self, clip: Clip) -> Tensor:
        """[B, F] bool on the CPU, frames that are neither the first nor the last of their run."""
        out = torch.zeros(clip.known.shape[:2], dtype=torch.bool)
        for row, known in enumerate(clip.known):
            live = known.any(1).nonzero()[:, 0].tolist()
            if len(live) < 3:  # no run of them has a middle
                continue
            for run in walked(alike_frames(clip.x[row].index_select(0, upload(live, clip.x.device))), *self._walk):
                out[row, [live[i] for i in run[1:-1]]] = True
        return out

    def decode(self, view: DecodeView) -> Decision:
        """What the last prompt token looks at takes in the rest."""
        return taken_in(view, halved=self.official_quirks)


def _name(view: EncodeView) -> str:
    return f"earlytom.{view.tower}"


def _on_cells(tokens: Tokens, values: Tensor) -> Tensor:
    """[B, F, P] by cell what tokens have [B, N]; zero where there is none."""
    grid = tokens.grid
    if not tokens.whole:
        values = torch.zeros(
            len(values), grid.n + 1, device=values.device
        ).scatter_(  # the last one is nobody's
            1, torch.where(tokens.visual, tokens.origin, grid.n), values
        )[:, :-1]
    return values.reshape(len(values), grid.t, -1)


def _merged_groups(view: FuseView) -> Tensor | None:
    """[B, N] the first cell of each one's group in the encoder with the most tokens; None where that has no blocks."""
    sequence = [name for name, depth in view.layout.depths.items() if depth > 0]
    lead = max(sequence, key=lambda name: view.layout.grids[name].n, default=None)
    if lead is None:
        return None
    return leaders(on_grid(view.groups[lead], view.layout, lead, view.tokens.grid), view.layout.grids[lead].n)
