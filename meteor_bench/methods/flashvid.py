"""FlashVID: Training-free Tree-based Spatiotemporal Token Merging for Video LLMs (ICLR 2026, arXiv 2602.08024).

Section 3. Before the language model. The clip is cut into segments where neighbouring frames' mean tokens are less
alike than 0.9 (cosine), and between the least alike ones until there are 8. Of each frame's part of the budget 70 % are
chosen for attention and diversity: the distance from token i to token j is ``(1 - cos)·a·e``, with a the attention on j
and e the mean dot product of j with the mean tokens of its segment's frames; the first choice is the token with the
largest second smallest distance to it, the next always the one whose smallest distance from those chosen is largest.
The others are linked, each to the most similar one of the frame before, in whatever position, if that is 0.8 alike.
The trees that this makes within a segment become their mean, in the place of their root. The roots of each frame are
clustered around density peaks (density over the 7 nearest, or as many as there are peaks to find) down to what is left
of the segment's budget; a cluster's mean stands where its peak was. In the language model (before layer 20 of 28) the
tokens that the last prompt token attends to most stay, 0.3 of them. A picture is a segment of one frame without links.

Deviations:

1. The authors round up at every step; here T / 0.3 tokens before and T after the last point are exact: frames share
   evenly, a segment's frames in proportion to their roots (largest remainder). `first` is that 1 / 0.3. Where links
   would leave fewer tokens than a segment's part, only the most similar ones are made, as many as may be; theirs makes
   one less, and then clusters nothing.
2. Their mean of a tree divides the sum of all its tokens by the root and its own children alone, which makes deep
   trees too long: `official_quirks`. Here a mean is a mean.
3. A token is chosen once (in their code a negative e lets one be chosen again), and in a segment of one frame what was
   chosen is not clustered again with the rest, as it is in theirs: of 8 frames or fewer, all of them such segments,
   theirs gives the language model some tokens twice.
4. Attention is the class token's or, without one, the mean attention received. No random noise on the densities: of two
   equal ones the lower index counts as denser.
5. On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts; on a
   shared one the encoders' attention is averaged, see `methods.shared.selection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.gather import scatter_rows, take_rows
from meteor_bench.core.host import on_device, places, upload
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, FuseView, Points, View, keep_top
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.clips import (
    Clip,
    ClipScorer,
    clip_of,
    decided,
    frame_likeness,
    on_clip,
    segments,
)
from meteor_bench.methods.shared.density import clustered
from meteor_bench.methods.shared.helpers import depth_points, divide, widened
from meteor_bench.methods.shared.picks import best_of_groups, picked

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["FlashVID", "diverse"]

LATE = Fraction(20, 28)
NEIGHBOURS = 7


def diverse(gap: Tensor, live: Tensor, count: Tensor) -> Tensor:
    """[R, P] bool, ``count`` tokens of each row chosen one after another for their distance from those chosen.

    Ties go to the lower index.

    Args:
        gap: [R, P, P] distance from each token to each; live: [R, P] bool; count: [R] on the CPU.
    """
    apart = gap.masked_fill(~live[..., None], torch.inf)
    second = apart.topk(min(2, gap.shape[1]), dim=1, largest=False).values[:, -1].masked_fill(~live, -torch.inf)
    nearest = torch.full_like(second, torch.inf).masked_fill_(~live, -torch.inf)
    picks: list[Tensor] = []
    for _ in range(int(count.max())):
        picks.append((nearest if picks else second).argmax(1, keepdim=True))
        nearest = torch.minimum(nearest, take_rows(gap, picks[-1])[:, 0]).scatter_(1, picks[-1], -torch.inf)
    return picked(picks, torch.arange(len(picks)) < count[:, None], torch.zeros(len(count), dtype=torch.bool), live)


@dataclass(frozen=True)
class FlashVID(ClipScorer):
    """Attributes are explained at the top of the file; see also `EncodeScorer`.

    Attributes:
        segments: the least number of segments (where there are as many frames).
        threshold: frames less alike than this are always cut apart.
        diverse: share of the tokens that is chosen for attention and diversity.
        alike: how alike linked tokens are at least.
        first: tokens that the language model gets, as a multiple of the budget.
        official_quirks: divide a tree's sum by its root and that one's children alone.
    """

    segments: Annotated[int, Range(least=1)] = 8
    threshold: float = 0.9
    diverse: Share = 0.7
    alike: float = 0.8
    first: Annotated[float, Range(least=1)] = 1 / 0.3
    official_quirks: bool = False

    fact: ClassVar[Fact] = Fact(
        year=2026, paper="arXiv 2602.08024", stages=("encode", "fuse", "decode"), needs=("attention",)
    )
    positions: ClassVar[Literal["keep", "renumber"]] = "keep"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The encoders' outputs, the projected tokens, late in the language model."""
        (layer,) = depth_points(self.title, vlm, (LATE,))
        return replace(super().points(vlm, budget), decode=(DecodePoint(before=layer, attention="last"),))

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """More than the budget; the rest of the work is the language model's."""
        return super().fuse(widened(views, self.first))

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Diverse tokens, and clusters of the roots of what is linked."""
        tokens, counts = view.tokens, view.tokens.counts()
        if bool((share == counts).all()):
            return Decision(keep=tokens.visual)
        clip = clip_of(tokens)
        b, frames, cells = clip.shape
        sizes = clip.known.sum(2)
        slots = divide(share, sizes, sizes)
        few = torch.minimum(torch.ceil(slots * self.diverse - 1e-9).long(), slots)
        cuts = [segments(row, self.segments - 1, self.threshold) for row in frame_likeness(clip)]
        gap = self._gaps(clip, on_clip(clip, score), cuts)
        chosen = diverse(gap.flatten(0, 1), clip.there.flatten(0, 1), few.flatten()).view(b, frames, cells)
        rows = [self._row(clip, row, chosen[row], slots[row], few[row], cuts[row]) for row in range(b)]
        keep, into, weight = (torch.stack(parts) for parts in zip(*rows, strict=True))
        decision = decided(tokens, clip, keep, share, into=into, weight=weight)
        return replace(decision, normalise=False)

    def _gaps(self, clip: Clip, attention: Tensor, cuts: list[list[range]]) -> Tensor:
        """[B, F, P, P] float64 distances from token to token of a frame."""
        x = clip.x.double()
        v = F.normalize(x, dim=-1, eps=1e-12)
        mean = x.sum(2) / clip.there.sum(2).clamp(min=1)[..., None]
        # Of a segment's mean tokens the mean: dot products add up.
        of = torch.zeros(len(x), clip.shape[1], clip.shape[1], dtype=torch.float64)
        for row, parts in enumerate(cuts):
            for part in parts:
                of[row, part[0] : part[-1] + 1, part[0] : part[-1] + 1] = 1 / len(part)
        event = (x @ (on_device(of, x.device) @ mean)[..., None])[..., 0]  # [B, F, P]
        return (1 - v @ v.transpose(2, 3)) * (attention.double() * event)[:, :, None]

    def _row(
        self, clip: Clip, row: int, chosen: Tensor, slots: Tensor, few: Tensor, parts: list[range]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[F·P] of one clip: what stays, where the rest ends, what each counts there.

        Args:
            chosen: [F, P] bool; slots, few: [F] on the CPU, tokens of each frame, and those chosen.
        """
        _, frames, cells = clip.shape
        x, there = clip.x[row].flatten(0, 1), clip.there[row]
        own, rest = places(len(x), x.device), there & ~chosen
        parent, linked = self._links(clip, row, rest, slots, parts)
        root = torch.where(linked, parent, own)
        for _ in range((frames - 1).bit_length()):  # a tree is no deeper than the clip is long
            root = root[root]
        live = rest.flatten()
        number = torch.zeros(len(x), device=x.device)
        if self.official_quirks:
            number = 1 + number.index_add_(0, parent, linked.float())
        else:
            number = number.index_add_(0, root, live.float()).clamp(min=1)
        mean = scatter_rows((x * live[:, None])[None], root[None])[0] / number[:, None]
        roots = (rest & ~linked.view(frames, cells)).flatten()
        caps = roots.view(frames, cells).sum(1).cpu() if frames > 1 else clip.known[row].sum(1) - few
        keep, to, weight = chosen.flatten().clone(), torch.full_like(own, -1), torch.ones(len(x), device=x.device)
        for part in parts:
            span = slice(part[0], part[-1] + 1)
            total = (slots - few)[span].sum()[None]
            given = divide(total, caps[span][None], caps[span][None])[0].tolist()
            for f, peaks in zip(part, given, strict=True):
                if peaks == 0:
                    continue
                at = f * cells + torch.nonzero_static(roots[f * cells : (f + 1) * cells], size=int(caps[f]))[:, 0]
                peak, nearest, _ = clustered(mean[at], peaks, min(NEIGHBOURS, peaks))
                size = torch.zeros(len(at), device=x.device).index_add_(0, nearest, torch.ones_like(weight[at]))
                to[at], keep[at], weight[at] = at[nearest], peak, 1 / size[nearest]
        into = torch.where(live, to[root], torch.where(keep, own, -1))
        return keep, into, torch.where(live, weight[root] / number[root], 1.0)

    def _links(self, clip: Clip, row: int, rest: Tensor, slots: Tensor, parts: list[range]) -> tuple[Tensor, Tensor]:
        """[F·P] the most similar token of the frame before, and whether a token is linked to it."""
        _, frames, cells = clip.shape
        own = places(frames * cells, rest.device)
        if frames == 1:
            return own, torch.zeros_like(own, dtype=torch.bool)
        v = F.normalize(clip.x[row].double(), dim=-1, eps=1e-12)
        likeness = (v[1:] @ v[:-1].transpose(1, 2)).masked_fill(~(rest[1:, :, None] & rest[:-1, None]), -2.0)
        best, at = likeness.max(2)  # [F - 1, P]
        best = F.pad(best, (0, 0, 1, 0), value=-2.0)
        begins = torch.zeros(frames, 1, dtype=torch.bool)
        begins[[part[0] for part in parts]] = True
        best = best.masked_fill(on_device(begins, best.device), -2.0).flatten()
        before = cells * torch.arange(frames - 1, device=at.device)[:, None]
        parent = torch.cat([own[:cells], (at + before).flatten()])
        segment = upload([i for i, part in enumerate(parts) for _ in part for _ in range(cells)], own.device)
        alike = best > self.alike
        found = torch.zeros(len(parts), device=own.device).index_add_(0, segment, alike.float()).long().cpu()
        room = [clip.known[row, part[0] : part[-1] + 1].sum() - slots[part[0] : part[-1] + 1].sum() for part in parts]
        most = torch.minimum(found, torch.stack(room))
        linked = best_of_groups(best[None], segment.masked_fill(~alike, len(parts))[None], most[None])[0]
        return parent, linked

    def decode(self, view: DecodeView) -> Decision:
        """What the last prompt token looks at."""
        score = view.attention.float().mean(1)[:, 0]
        return Decision(keep=keep_top(score, view.target, view.candidates), score=score, count=view.target)
