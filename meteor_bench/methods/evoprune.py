"""EvoPrune: Early-Stage Visual Token Pruning (arXiv 2603.03681), section 3. Training-free, inside the encoder.

In a merge layer: attention with its residual, merge r tokens, MLP. Even tokens a, odd tokens b; each i in a picks its
best j in b by ``Score = Sim·w_div·w_attn`` and the r best edges merge a into b.

- Sim: cosine, in [0, 1].
- ``d_i = 1 - (1/K)·sum over the K nearest k of exp(-|v_i - v_k|²/tau²)``, ``w_div = exp(-lambda_d·(d_i + d_j))``:
  isolated tokens are spared.
- ``s_i``: the attention a token receives; the ``N_protect = min(CTR·T_l, T_l - 2r)`` highest are protected: an edge
  that touches one is excluded.
- Schedule: of N tokens N - T are removed, spread evenly over every other layer ("skip").

With `temporal` tokens merge across a clip's frames as well. This is ours; the paper names it as what it lacks. From
the block at the share `since` of the depth on, a token may also merge into one of the frame before it, at the same
place of the grid or at most `reach` cells away, by the same score (`shared.temporal`: runs of at most `run` frames
whose neighbours' mean tokens have a cosine of at least `alike`). Of each token the better of its two edges counts, all
of a clip's edges stand in one ranking, and at most the share `across` of a layer's merges are temporal. The highest s_i
of each frame are protected. A merged token lives in the earlier frame; a frame that has lost all tokens costs nothing
any more. The budget is the clip's, not the frame's. `turns=shuffled` is the control: neighbours in a drawn order, all
else the same.

`schedule=content` is ours, too: at the blocks of "skip", how many tokens merge follows the image, by FlowCut's rule
(arXiv 2505.19536): with n tokens, m merge layers to come and H the entropy of s over them, ``(n - T)/sqrt(m)·(1 - (H/ln
n)²)``; the last layer merges what is left above T. Flat attention postpones merging. No layer leaves more than those
to come can halve to T, so that the total is exact for every image: where a layer could not merge later what it spares,
protected tokens are its last resort, too. FlowCut has class attention for s.

Deviations. No code is public; these are our choices where the paper is silent, not the authors':

- v: hidden states after attention, L2-normalised; K = 5; lambda_d = 1; tau = the median distance to the K nearest, per
  image; merged tokens are size-weighted means; the class token takes no part; even and odd count the visual tokens of
  the current sequence; protection is decided anew at each merge layer.
- s_i is the mean over heads and queries of the attention received. (As printed it averages a softmax row, a constant.)
- Sim is clamped at 0 and edges are excluded after the product, so that no product decides about an excluded edge.
- N_protect is at least 0. Where too few legal sources are left, the rest is carried to the next merge layer; in the
  last one, protected tokens are merged as a last resort, so that the budget is exact. Without `relax`, which could make
  up for it afterwards, so they are in any layer that would leave more than those to come can halve to T.
- Merge layers of "skip" are blocks 0, 2, 4, … (`start`); "mean": all; "first", "last": that half of the blocks;
  "increasing", "decreasing": all, r growing or shrinking linearly.
- A layer merges at most half of its tokens: on CLIP-L with 12 merge layers 64 of 576 tokens can be reached and 32
  cannot. What `relax` does about it, and several encoders: see `shared.merging`. At a convolutional encoder's output
  the score has no attention term.
- `temporal`: at an encoder's output, where merges there are needed at all, tokens pair across the whole clip, whatever
  their frames. Frames of different lengths are padded, which costs time and is not in the FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.frames_apart import FramesApart
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import EncodePoint, EncodeView, Fact, Points, keep_top
from meteor_bench.core.settings import Range, Share
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.helpers import flatness, round_half_up, unit
from meteor_bench.methods.shared.merging import InsideMerger, Paired
from meteor_bench.methods.shared.schedules import plan
from meteor_bench.methods.shared.temporal import Runs, earlier, runs_of

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["EvoPrune"]


class _Weighed(NamedTuple):
    """Rows [R] as their visual tokens [M], and what they say of each other.

    Attributes:
        score: [R, A, B] of the edges from even places to odd ones; below 0 where protection forbids it.
        order: [R, M] where the tokens stand.
        v: [R, M, D] unit vectors.
        apart: [R, M] d_i; None without diversity.
        free: [R, M] bool, not protected; present: [R, M] bool; None for all.
    """

    score: Tensor
    order: Tensor
    v: Tensor
    apart: Tensor | None
    free: Tensor | None
    present: Tensor | None


class _Best(NamedTuple):
    """Of each of all clips' tokens [T] the best edge's score, -inf where it has none, and where it leads."""

    best: Tensor
    goal: Tensor


def _spread(score: Tensor, source: Tensor, goal: Tensor, nowhere: int) -> _Best:
    """The best edge of each source, by where it stands.

    Args:
        score: [R, A, B]; source: [R, A]; goal: [R, B] among all clips' tokens, or ``nowhere``.
    """
    best = score.new_full((nowhere + 1,), -torch.inf)
    into = torch.zeros(nowhere + 1, dtype=torch.long, device=score.device)
    if score.shape[2] > 0:
        most, partner = score.max(2)
        best.scatter_(0, source.flatten(), most.flatten())
        into.scatter_(0, source.flatten(), goal.gather(1, partner).flatten())
    return _Best(best[:-1], into[:-1])


@dataclass(frozen=True)
class EvoPrune(InsideMerger):
    """Attributes are explained at the top of the file.

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
        own = places(n, x.device).expand(rows, n)
        found = self._weigh(x, own, visual, count, r, view.attention if self.attention and view is not None else None)
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

    def _quota(self, count: Tensor, r: Tensor) -> Tensor:
        """[R] N_protect."""
        return torch.minimum((self.protect * count.double()).long(), count - 2 * r).clamp(min=0)

    def _exact(self, count: Tensor, r: Tensor, final: Tensor | None, protected: bool) -> bool:
        """Whether each row merges its r wherever the protected tokens stand; arguments as for `pair`."""
        evens, odds = (count + 1) // 2, count // 2
        quota = self._quota(count, r) if protected else torch.zeros_like(count)
        enough = (r <= evens - quota) & (quota < odds)  # sources left, and one goal
        if final is not None:
            enough |= final & (odds > 0)  # protected ones are its last resort
        return bool((enough | (r == 0)).all())

    def _weigh(
        self, x: Tensor, own: Tensor, visual: Tensor, count: Tensor, r: Tensor, attention: Tensor | None
    ) -> _Weighed:
        """What each edge within a row scores; arguments as for `pair`, ``own`` the places [R, N]."""
        most = int(count.max())
        alike = bool((count == most).all())  # no row has fewer tokens than another
        # Visual tokens first, in order; their places 0, 2, 4, … are a, places 1, 3, 5, … are b.
        order = own
        if not alike or most < x.shape[1]:
            order = (~visual).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        v = unit(x if order is own else take_rows(x, order))  # [R, M, D]
        likeness = v @ v.transpose(1, 2)
        present = None if alike else torch.arange(most, device=x.device) < on_device(count, x.device)[:, None]
        free = present  # not protected
        if attention is not None:
            quota = self._quota(count, r)
            attention = attention if order is own else attention.gather(1, order)
            free = ~keep_top(attention, quota, present)
            free = free if present is None else free & present
        apart = self._isolation(likeness, present) if self.diversity else None
        score = likeness[:, 0::2, 1::2].clamp(min=0)  # [R, A, B]
        if apart is not None:
            score = score * torch.exp(-self.strength * (apart[:, 0::2, None] + apart[:, None, 1::2]))
        # Scores lie in [0, 1]; illegal edges come after all legal ones, impossible ones never.
        if free is not None:
            score = torch.where(free[:, 0::2, None] & free[:, None, 1::2], score, score - 2)
        if present is not None:
            score.masked_fill_(~(present[:, 0::2, None] & present[:, None, 1::2]), -torch.inf)
        return _Weighed(score, order, v, apart, free, present)

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
        found = self._weigh(x, own, rows.visual, count, part, attention)
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
        inside = _spread(found.score, here[:, 0::2], here[:, 1::2], nowhere)
        best, goal = inside
        if runs is not None:
            score, before = self._across(found, rows.origin.gather(1, found.order), earlier(frames, runs), rows.grid)
            across = _spread(score, here, here[before], nowhere)
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

    def _across(self, found: _Weighed, origin: Tensor, before: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """[R', M, M] what edges from a row's tokens to those of the row ``before`` [R'] score, and that row or 0."""
        paired = before >= 0
        before = before.clamp(min=0)
        v = found.v
        score = (v @ v[before].transpose(1, 2)).clamp(min=0)
        if found.apart is not None:
            score = score * torch.exp(-self.strength * (found.apart[:, :, None] + found.apart[before][:, None]))
        if found.free is not None:
            score = torch.where(found.free[:, :, None] & found.free[before][:, None], score, score - 2)
        there = origin[before]
        down = (origin // grid.w)[:, :, None] - (there // grid.w)[:, None]
        right = (origin % grid.w)[:, :, None] - (there % grid.w)[:, None]
        near = (down.abs() <= self.reach) & (right.abs() <= self.reach) & paired[:, None, None]
        if found.present is not None:
            near = near & found.present[:, :, None] & found.present[before][:, None]
        return score.masked_fill(~near, -torch.inf), before

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
