"""EarlyTom: early compression of whole frames (CVPR 2026, arXiv 2605.30010). Training-free, for video.

Inside the encoder, after three of its blocks, whole frames merge. How alike two frames are is the mean cosine of tokens
at the same place. A clip is walked through: the run goes on while a moving average (0.9 of the newest) of how alike
each frame is to the run's first is at least `threshold`, and the run is shorter than `window` - 1. The first and the
last frame of a run stay. Of those between, a frame and the next merge if they are more alike than first and last are,
and more than the next and the one after it: at each place ``w·a + (1 - w)·b``, w the first of these two likenesses
over their sum (1 for the last pair, and where the second is not above 0, for which the authors' code has no weight
between 0 and 1). Before the language model each frame that is left gives equally many tokens: the first and the last of
a run those with the most attention, those between the one with the most attention of each of so many equal pieces of
the frame. In the language model (before layer 18 of 28) the half stays that the last prompt token attends to most.

Deviations:

1. In the authors' code a frame that ends a run's middle without a partner is lost: `official_quirks`. Here it stays.
2. The authors set blocks, threshold and window for each benchmark and ratio in their scripts; here they are their
   code's defaults: the blocks at 7/26, 22/26 and 24/26 of the depth, 0.6 and 8.
3. Their counts are rounded per frame; here `first`·T before the language model and T behind it are exact. Frames stop
   merging where fewer than those tokens would be left.
4. Runs are cut once more on the projected tokens, to tell a run's ends from its middle; the authors keep those of the
   encoder's last merge. Their clustering of what attention leaves over has a share of 0 in their scripts, and is left
   out.
5. Several encoders merge each on its own. On a shared fusion frames that have merged in the encoder with the most
   tokens are averaged for all and stand in the earlier one; attention is averaged, see `methods.shared.selection`. An
   encoder without blocks merges nothing. A picture, and its tiles, are runs of one frame: attention alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, zip_longest
from math import ceil, floor
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.frames_apart import FramesApart
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
    keep_top,
)
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.clips import Clip, ClipScorer, clip_of, decided, on_clip
from meteor_bench.methods.shared.groups import leaders, on_grid
from meteor_bench.methods.shared.helpers import depth_points, divide, unit, widened
from meteor_bench.methods.shared.picks import best_of_groups

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["EarlyTom", "Merge", "merges", "walked"]

BLOCKS = (Fraction(7, 26), Fraction(22, 26), Fraction(24, 26))
LATE = Fraction(18, 28)


class Merge(NamedTuple):
    """A frame that takes in another, and how much it counts itself."""

    frame: int
    other: int
    weight: float


def walked(alike: Sequence[Sequence[float]], threshold: float, window: int, memory: float) -> list[range]:
    """The runs of frames with the mutual likenesses ``alike`` [F][F]."""
    found, start, average = [], 0, 1.0
    for i in range(1, len(alike)):
        average = memory * alike[start][i] + (1 - memory) * average
        if average < threshold or i - start + 1 >= window:
            found.append(range(start, i))
            start, average = i, 1.0
    return [*found, range(start, len(alike))]


def merges(alike: Sequence[Sequence[float]], run: range, *, lose: bool) -> list[Merge]:
    """What merges within a run; ``lose``: a last frame without a partner counts as taken in by the one before it."""
    middle = run[1:-1]
    if len(middle) < 2:
        return []
    ends = alike[run[0]][run[-1]]
    near = [alike[a][b] for a, b in pairwise(middle)]
    found, i = [], 0
    while i < len(near):
        last = i + 1 == len(near)
        if near[i] > ends and (last or near[i] > near[i + 1]):
            weight = near[i] / (near[i] + near[i + 1]) if not last and near[i + 1] > 0 else 1.0
            found.append(Merge(middle[i], middle[i + 1], weight))
            i += 1
        i += 1
    if lose and i == len(near):
        taken = next((merge.frame for merge in found if merge.other == middle[-2]), middle[-2])
        found.append(Merge(taken, middle[-1], 1.0))
    return found


@dataclass(frozen=True)
class EarlyTom(ClipScorer):
    """Attributes are explained at the top of the file; see also `EncodeScorer`.

    Attributes:
        threshold: least moving average of likeness to a run's first frame.
        window: frames at which a run is cut.
        memory: what the newest frame counts in the average.
        first: tokens that the language model gets, as a multiple of the budget.
        official_quirks: lose frames as the authors' code does.
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
            # The last block's attention is read at the output, which a stop behind it would be too late for.
            after = {min(tower.depth - 1, max(1, floor(share * tower.depth + Fraction(1, 2)))) for share in BLOCKS}
            blocks.append([(name, block) for block in sorted(after) if block > 0])
        steps = [EncodePoint(after=dict(filter(None, step))) for step in zip_longest(*blocks)]
        late = DecodePoint(before=layer, attention="last")
        return replace(base, encode=(*steps, *base.encode), decode=(late,), clips=True)

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Merge frames on the way, only score at the outputs."""
        depths = next(iter(views.values())).layout.depths
        steps = {name: view for name, view in views.items() if view.attention is None and depths[name] > 0}
        if not steps:
            return super().encode(views)
        return {name: self._merge(view, view.frames) for name, view in steps.items() if view.frames is not None}

    def _merge(self, view: EncodeView, frames: FramesApart) -> Decision:
        """Frames of whole clips; waits for the device once a clip."""
        tokens, clips = view.tokens, view.tokens.x.shape[0]
        count, specials = len(frames.lengths) // clips, frames.tokens.host[0].special
        v = unit(frames.tokens.x[:, specials:])  # [R', S, D]: a frame is there as a whole, or not at all
        kept = torch.zeros(clips, count, dtype=torch.bool)
        goes = torch.arange(count).repeat(clips, 1)  # the frame that each one ends in
        weight = torch.ones(clips, count)
        for b in range(clips):
            rows = [r for r, row in enumerate(frames.rows) if row // count == b]
            live = [frames.rows[r] % count for r in rows]
            kept[b, live] = True
            flat = v.index_select(0, upload(rows, v.device)).flatten(1)
            alike = (flat @ flat.T / v.shape[1]).tolist()
            part = min(1.0, self.first * int(view.target[b]) / int(view.reference[b]))
            spare = len(live) - ceil(count * part)
            for run in walked(alike, self.threshold, self.window, self.memory):
                for merge in merges(alike, run, lose=self.official_quirks)[: max(0, spare)]:
                    frame, other, share = live[merge.frame], live[merge.other], merge.weight
                    kept[b, other], goes[b, other], spare = False, frame, spare - 1
                    if share < 1:
                        weight[b, frame] = share
                    weight[b, other] = 1 - share
        device, each, n = tokens.x.device, tokens.grid.h * tokens.grid.w, tokens.x.shape[1]
        frame_of = torch.where(tokens.visual, tokens.origin, 0) // each
        own = places(n, device)
        # Where a cell's token stands; the token at the same place of the other frame is there, as both are whole.
        seat = torch.zeros(clips, tokens.grid.n + 1, dtype=torch.long, device=device)  # the last one is nobody's
        seat.scatter_(1, torch.where(tokens.visual, tokens.origin, tokens.grid.n), own.expand(clips, n))
        goal = on_device(goes, device).gather(1, frame_of) * each + tokens.origin.clamp(min=0) % each
        keep = on_device(kept, device).gather(1, frame_of) & tokens.visual
        return Decision(
            keep=keep,
            merge_into=torch.where(tokens.visual, seat.gather(1, goal), -1),
            weight=on_device(weight, device).gather(1, frame_of),
            count=kept.sum(1) * each,
        )

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
        v = unit(clip.x)
        out = torch.zeros(clip.known.shape[:2], dtype=torch.bool)
        for row, known in enumerate(clip.known):
            live = known.any(1).nonzero()[:, 0].tolist()
            if len(live) < 3:  # no run of them has a middle
                continue
            flat = v[row].index_select(0, upload(live, v.device)).flatten(1)
            alike = (flat @ flat.T / v.shape[2]).tolist()
            for run in walked(alike, self.threshold, self.window, self.memory):
                out[row, [live[i] for i in run[1:-1]]] = True
        return out

    def decode(self, view: DecodeView) -> Decision:
        """What the last prompt token looks at stays."""
        score = view.attention.float().mean(1)[:, 0]
        return Decision(keep=keep_top(score, view.target, view.candidates), score=score, count=view.target)


def _merged_groups(view: FuseView) -> Tensor | None:
    """[B, N] the first cell of each one's group in the encoder with the most tokens; None where that has no blocks."""
    sequence = [name for name, depth in view.layout.depths.items() if depth > 0]
    lead = max(sequence, key=lambda name: view.layout.grids[name].n, default=None)
    if lead is None:
        return None
    return leaders(on_grid(view.groups[lead], view.layout, lead, view.tokens.grid), view.layout.grids[lead].n)
