"""EvoPrune's merge layers: when, how many and which; its terms and its deviations stand in the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.frames_apart import FramesApart
from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import EncodePoint, EncodeView, Fact, Points, keep_top
from meteor_bench.core.seats import Seats
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.evoprune.edges import Score, spread
from meteor_bench.methods.shared.helpers import flatness, round_half_up
from meteor_bench.methods.shared.merging import InsideMerger, Paired
from meteor_bench.methods.shared.pairs import IN_PLACE, seats
from meteor_bench.methods.shared.schedules import plan
from meteor_bench.methods.shared.temporal import Runs, earlier, runs_of

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["EvoPrune"]


@dataclass(frozen=True)
class EvoPrune(InsideMerger):
    """See the package for what they do.

    Attributes:
        schedule: those of `InsideMerger`, or content: layers of skip, merges by the image.
        attention: protect tokens that receive attention.
        diversity: spare isolated tokens.
        protect: CTR, the share of tokens that is protected.
        neighbours: K.
        strength: lambda_d.
        temperature: tau; 0 takes the median neighbour distance of the image.
        temporal: merge across frames, too.
        across: most of a layer's merges that are temporal, as a share.
        reach: cells between the places of two tokens that merge across frames.
        since: share of the encoder's depth before which merges stay within frames.
        alike: least cosine of the mean tokens of neighbouring frames in a run.
        run: most frames in a run.
        turns: time, or shuffled: which frames are neighbours.
    """

    schedule: Literal["skip", "mean", "first", "last", "increasing", "decreasing", "content"] = "skip"  # type: ignore[assignment]
    attention: bool = True
    diversity: bool = True
    protect: Share = 0.25
    neighbours: Annotated[int, Range(least=1)] = 5
    strength: float = 1.0
    temperature: Annotated[float, Range(least=0)] = 0.0
    temporal: bool = False
    across: Share = 0.3
    reach: Annotated[int, Range(least=0)] = 1
    since: Share = 1 / 3
    alike: Annotated[float, Range(least=-1, most=1)] = 0.9
    run: Annotated[int, Range(least=1)] = 6
    turns: Literal["time", "shuffled"] = "time"

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2603.03681", stages=("encode",), needs=("attention",))
    title: ClassVar[str] = "evoprune"

    @property
    def draws(self) -> bool:
        """Only the control does."""
        return self.temporal and self.turns == "shuffled"

    @property
    def _score(self) -> Score:
        return Score(self.diversity, self.protect, self.neighbours, self.strength, self.temperature, self.reach)

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Clips as wholes where merges lead across frames."""
        return replace(super().points(vlm, budget), clips=self.temporal)

    def layer_point(self, after: Mapping[str, int]) -> EncodePoint:
        """Attention received in the block."""
        read = self.attention or self.schedule == "content"
        return EncodePoint(after=after, inside=True, attention="received" if read else None)

    def _wanted(self, view: EncodeView, target: Tensor) -> tuple[Tensor, Tensor]:
        """By attention's entropy where the schedule follows the content; when protected tokens have to merge."""
        wanted, final = super()._wanted(view, target)
        attention = view.attention
        content = self.schedule == "content" and attention is not None
        if self.relax and not content:
            return wanted, final
        n = view.tokens.counts()
        layers, blocks = view.layers[:-1], tuple(self._blocks(view.layout.depths[view.tower]))
        here, cells = layers.index(view.layer), view.layout.grids[view.tower].n
        plans = [plan(self.schedule, blocks, layers, cells, k) for k in target.tolist()]
        ahead = torch.tensor([sum(count >= 0 for count in found.counts[here + 1 :]) for found in plans])
        most = target * 2**ahead  # what is left can be halved so often
        # What this layer would leave to those to come for lack of legal edges may be more than they can merge.
        final = final | ((n > most) & self._counts(view))
        if not content or attention is None:
            return wanted, final
        flat = flatness(attention, view.candidates, n)
        over = (n - target).clamp(min=0)
        left = n - round_half_up(over / ahead.clamp(min=1).double().sqrt() * (1 - flat**2))
        left = torch.minimum(left, most)
        left = torch.where(ahead == 0, target, torch.maximum(left, target))
        return torch.where(wanted < 0, wanted, left), final

    def pair(
        self, view: EncodeView | None, x: Tensor, visual: Tensor, count: Tensor, r: Tensor, final: Tensor | None
    ) -> Paired:
        """Even tokens to odd ones by the score; protected ones as a last resort in the last merge layer."""
        if view is not None and view.frames is not None:
            return self._pair_clips(view, view.frames, r, final)
        rows, n, _ = x.shape
        attention = view.attention if self.attention and view is not None else None
        own = places(n, x.device).expand(rows, n)
        found = self._score.weigh(x, own, visual, count, r, attention)
        order, score = found.order, found.score
        into = own if found.present is None and order is own else own.masked_fill(~visual, -1)
        if score.shape[2] > 0:
            best, partner = score.max(2)  # [R, A], [R, A] place in b
            allowed = best >= (0 if final is None else _least(final, x.device))  # has a legal edge, or needs none
            source = order[:, 0::2]
            goal = order[:, 1::2].gather(1, partner)
            # What is not allowed comes last by itself. What is not visual stands in no edge and keeps its -1.
            chosen = keep_top(best, r, None) & allowed
            goal = torch.where(chosen, goal, source if into is own else into.gather(1, source))
            into = into.scatter(1, source, goal)
        return Paired(into, exact=self._exact(count, r, final, protected=view is not None and self.attention))

    def seats(self, view: EncodeView, count: Tensor, r: int, final: Tensor) -> Seats | None:
        """The same where each row merges its r for sure, and all edges lead within it."""
        merges = torch.full_like(count, r)
        if view.frames is not None or not self._exact(count, merges, final, self.attention):
            return None
        heads = view.tokens.heads or 0
        x = view.tokens.x[:, heads:]
        attention = view.attention[:, heads:] if self.attention and view.attention is not None else None
        best, partner = self._score.best(x, count, merges, attention)
        n = x.shape[1]
        return Seats(seats(best, partner, n, r, IN_PLACE, heads), heads + n - r, True, heads)

    def _exact(self, count: Tensor, r: Tensor, final: Tensor | None, protected: bool) -> bool:
        """Whether each row merges its r wherever the protected tokens stand; arguments as for `pair`."""
        evens, odds = (count + 1) // 2, count // 2
        quota = self._score.quota(count, r) if protected else torch.zeros_like(count)
        enough = (r <= evens - quota) & (quota < odds)  # sources left, and one goal
        if final is not None:
            enough |= final & (odds > 0)  # protected ones are its last resort
        return bool((enough | (r == 0)).all())

    def _pair_clips(self, view: EncodeView, frames: FramesApart, r: Tensor, final: Tensor | None) -> Paired:
        """Within frames and across them; r and final [B] are those of clips."""
        clips, n = view.tokens.visual.shape
        rows, x = frames.tokens, frames.tokens.x
        device, width = x.device, x.shape[1]
        count = rows.counts()  # [R']
        sample = torch.tensor(frames.rows) // (len(frames.lengths) // clips)
        # A frame's part of what its clip merges, so that protection leaves enough.
        part = -torch.div(-r[sample] * count, view.tokens.counts()[sample], rounding_mode="floor")
        attention = None
        if self.attention and view.attention is not None:
            attention = frames.split(view.attention)
        own = places(width, device).expand(x.shape[:2])
        found = self._score.weigh(x, own, rows.visual, count, part, attention)
        memo, runs = {}, self._runs(view, frames)
        if runs is not None:
            memo = {f"{view.tower}.{name}": value for name, value in runs._asdict().items()}
        # Where the tokens of rows stand among all clips' tokens; one place more takes what stands nowhere.
        nowhere = clips * n
        table = torch.full((len(count) * width + 1,), nowhere, dtype=torch.long, device=device)
        table.scatter_(0, frames.seat.flatten(), torch.arange(nowhere, device=device))
        here = table[:-1].view(len(count), width).gather(1, found.order)  # [R', M]
        if found.present is not None:
            here = here.masked_fill(~found.present, nowhere)
        inside = spread(found.score, here[:, 0::2], here[:, 1::2], nowhere)
        best, goal = inside
        if runs is not None:
            origin = rows.origin.gather(1, found.order)
            score, before = self._score.across(found, origin, earlier(frames, runs), rows.grid)
            across = spread(score, here, here[before], nowhere)
            better = (across.best > best).view(clips, n)
            most = (self.across * r.double()).long()
            taken = keep_top(across.best.view(clips, n), most, better).flatten()
            best = torch.where(taken, across.best, best)
            goal = torch.where(taken, across.goal, goal)
        # Within a clip again.
        best = best.view(clips, n)
        goal = goal.view(clips, n) - n * torch.arange(clips, device=device)[:, None]
        least = 0.0 if final is None else _least(final, device)
        chosen = keep_top(best, r, best >= least)
        into = torch.where(chosen, goal, places(n, device))
        for _ in range(2):  # a goal may have merged too: in its frame, into the frame before, there once more
            into = into.gather(1, into)
        return Paired(into.masked_fill(~view.tokens.visual, -1), memo=memo)

    def _runs(self, view: EncodeView, frames: FramesApart) -> Runs | None:
        """How clips are cut, worked out at the first layer from which on merges lead across frames; None before it."""
        if view.layer < self.since * view.layout.depths[view.tower]:
            return None
        kept = [view.memo.get(f"{view.tower}.{name}") for name in Runs._fields]
        if kept[0] is not None and kept[1] is not None:
            return Runs(kept[0], kept[1])
        clips = view.tokens.x.shape[0]
        count = len(frames.lengths) // clips
        turn = torch.arange(count).expand(clips, count)
        if self.turns == "shuffled":
            turn = torch.stack([torch.randperm(count, generator=g, device=g.device) for g in view.generators])
        return runs_of(frames, clips, on_device(turn, view.tokens.x.device), self.alike, self.run)


def _least(final: Tensor, device: torch.device) -> Tensor | float:
    """What a source's best score must reach: 0 where it needs a legal edge, -2 in a row's last merge layer."""
    least = torch.where(final, -2.0, 0.0)
    return on_device(least, device)[:, None] if bool((final != final[0]).any()) else float(least[0])
