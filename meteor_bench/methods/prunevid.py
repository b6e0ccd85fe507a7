"""PruneVid: Visual Token Pruning for Efficient Video Large Language Models (ACL 2025, arXiv 2412.16117), section 3.

Written from a summary of the paper, then held to the authors' code (Visual-AI/PruneVid, b12600c, not copied).

Before the language model: frames, by their mean tokens, are clustered around density peaks, a quarter as many as
there are frames, rounded down; a cluster keeps its longest run of neighbouring frames, other frames join the longer run
beside them, and what then stands together is a segment. A position whose tokens in a segment are more than 0.8 alike
(mean cosine of all pairs of frames) is static and averaged over it. Then the moving tokens of each frame, and the
averaged ones of each segment, are clustered around density peaks in turn, everyone joining the nearest: the tokens are
the clusters' means. A segment's averaged ones stand first, then those of its frames, each by falling strength of their
peaks. In the language model (after layer 11 of 32) the tokens of each frame, and the averaged ones of each segment,
are ranked by the most that any token of the question, in any head, attends to them; 0.4 of each stay.

Deviations:

1. The paper clusters to half of the tokens each time, whatever that leaves; here to the same share each time, such that
   T / 0.4 tokens are left in all, and T at the end, both exactly (largest remainder). `first` is that 1 / 0.4.
2. Where a clip is so still that averaging leaves fewer than that, as many of the averaged ones stay by themselves as
   are missing, those least like their mean first, and nothing is clustered.
3. There is at least one peak among frames, and no random noise on densities. The authors' code clusters no group of 14
   tokens or fewer; here the count decides.
4. In the authors' code the attention is that of queries and keys before their rotation, and without the causal mask;
   here it is the model's own. Theirs takes what goes out of the caches of the layers before, too.
5. The question are all prompt tokens behind the image. A picture is a segment of one frame with nothing static.
   `order` = spatial leaves a cluster's mean where its peak was.
6. On an independent fusion each encoder is reduced on its own, the budget split in proportion to the token counts. A
   token that is gone is not static. In the language model a token of several frames is an averaged one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, FuseView, Points, keep_top
from meteor_bench.core.settings import Range, Share
from meteor_bench.methods.shared.clips import Clip, as_clip, clip_of, decided
from meteor_bench.methods.shared.density import clustered
from meteor_bench.methods.shared.helpers import depth_points, divide, widened
from meteor_bench.methods.shared.orders import AuthorsOrder
from meteor_bench.methods.shared.picks import best_of_groups
from meteor_bench.methods.shared.scorers import FuseChooser
from meteor_bench.methods.shared.still import averaged, still_of, undone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meteor_bench.core.model import VLM

__all__ = ["PruneVid", "pairwise_likeness", "refined"]

EARLY = Fraction(11, 32)
NEIGHBOURS = 7


def refined(labels: list[int]) -> list[int]:
    """Clusters of frames with their scattered frames given to the runs beside them.

    A cluster keeps its runs of greatest length, if that is more than one frame. From the front, what is then without a
    cluster joins the longer of the runs beside it, of equal ones the left; where nothing has a cluster, all is one.
    """
    length = [len(run) for run in _runs(labels) for _ in run]
    most = {label: max(n for n, of in zip(length, labels, strict=True) if of == label) for label in labels}
    out = [label if most[label] == n > 1 else -1 for n, label in zip(length, labels, strict=True)]
    while -1 in out:
        found = _runs(out)
        at = next(i for i, run in enumerate(found) if out[run[0]] == -1)
        beside = [found[i] for i in (at - 1, at + 1) if 0 <= i < len(found)]
        label = out[max(beside, key=len)[0]] if beside else 0  # of equal ones the first
        for frame in found[at]:
            out[frame] = label
    return out


def _runs(labels: list[int]) -> list[range]:
    """Neighbours with the same label."""
    bounds = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
    return [range(a, b) for a, b in pairwise(bounds)]


def pairwise_likeness(x: Tensor) -> Tensor:
    """[P] float64 mean cosine over all pairs of frames of [L, P, D], for L of 2 or more."""
    v = F.normalize(x.double(), dim=-1, eps=1e-12)
    length, own = len(v), v.square().sum((0, 2))
    return (v.sum(0).square().sum(1) - own) / (length * (length - 1))


@dataclass(frozen=True)
class PruneVid(AuthorsOrder, FuseChooser):
    """Attributes are explained at the top of the file.

    Attributes:
        frames: peaks among frames, as a share of them.
        threshold: how alike a position's tokens must be to be static.
        first: tokens that the language model gets, as a multiple of the budget.
    """

    frames: Share = 0.25
    threshold: float = 0.8
    first: Annotated[float, Range(least=1)] = 2.5

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2412.16117", stages=("fuse", "decode"), needs=("attention",))
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before the language model, and early in it."""
        (layer,) = depth_points(self.title, vlm, (EARLY,))
        return replace(super().points(vlm, budget), decode=(DecodePoint(before=layer, attention="text"),))

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """More than the budget; the rest of the work is the language model's."""
        return super().fuse(widened(views, self.first))

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Average what is static, then cluster what is left."""
        tokens, counts = as_clip(view).tokens, view.tokens.counts()
        if bool((share == counts).all()):
            return Decision(keep=tokens.visual)
        clip = clip_of(tokens)
        rows = [self._row(clip, row, int(share[row])) for row in range(len(share))]
        keep, into, weight, turn = (torch.stack(parts) for parts in zip(*rows, strict=True))
        order = None if self.ordered else turn
        return decided(tokens, clip, keep, share, into=into, weight=weight, order=order)

    def _row(self, clip: Clip, row: int, total: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[F·P] of one clip: what stays, where the rest ends, what each counts there, its sort key."""
        frames, x = clip.shape[1], clip.x[row].flatten(0, 1)
        device, own = x.device, places(len(x), x.device)
        segments = self._segments(clip, row)
        still = still_of(clip.known[row], segments, self._static(clip, row, segments))
        if int(still.caps.sum()) <= total:
            into = undone(x, still, total)
            return into == own, into, torch.ones(len(x), device=device), torch.zeros_like(own)
        mean, into = averaged(x, still)
        cells = torch.arange(len(x)).view(frames, -1)
        groups = [*(cells[f][still.moving[f]] for f in range(frames)), *still.heads]
        turns = [f + r + 1 for r, segment in enumerate(segments) for f in segment]  # a segment's averaged ones first
        turns += [segment[0] + r for r, segment in enumerate(segments)]
        given = divide(torch.tensor([total]), still.caps[None], still.caps[None])[0]
        keep, to = torch.zeros(len(x), dtype=torch.bool, device=device), torch.full_like(own, -1)
        order = torch.zeros_like(own)
        for group, peaks, turn in zip(groups, given.tolist(), turns, strict=True):
            if peaks == 0:
                continue
            at = on_device(group, device)
            found = clustered(mean[at], peaks, NEIGHBOURS)
            to[at], keep[at] = at[found.nearest], found.peak
            order[at] = turn * len(x) + (found.rank if peaks < len(group) else places(len(group), device))
        return keep, to[into], 1 / on_device(still.length, device), order

    def _segments(self, clip: Clip, row: int) -> list[range]:
        """Neighbouring frames of one cluster."""
        frames = clip.shape[1]
        if frames == 1:
            return [range(1)]
        mean = clip.x[row].sum(1) / clip.there[row].sum(1).clamp(min=1)[:, None]
        nearest = clustered(mean, max(1, int(self.frames * frames)), NEIGHBOURS).nearest
        of = refined(nearest.tolist())
        return _runs(of)

    def _static(self, clip: Clip, row: int, segments: list[range]) -> list[Tensor]:
        """For each segment [P] bool on the CPU."""
        nothing = torch.zeros(clip.shape[2], dtype=torch.bool)
        long = [s for s in segments if len(s) > 1]
        if not long:
            return [nothing for _ in segments]
        alike = torch.stack([pairwise_likeness(clip.x[row, s[0] : s[-1] + 1]) for s in long]).cpu() > self.threshold
        whole = [clip.known[row, s[0] : s[-1] + 1].all(0) for s in long]
        found = dict(zip(long, alike & torch.stack(whole), strict=True))
        return [found.get(s, nothing) for s in segments]

    def decode(self, view: DecodeView) -> Decision:
        """What any token of the question looks for in any head, of each frame and of each segment's averaged tokens."""
        score = view.attention.float().amax((1, 2))
        frame, frames = _frame_of_cells(view)
        if frames == 1:
            return Decision(keep=keep_top(score, view.target, view.candidates), score=score, count=view.target)
        tokens, device = view.tokens, score.device
        place = torch.where(tokens.group < 0, tokens.grid.n, tokens.group)  # one more for cells that are gone
        of = on_device(frame, device).expand_as(place)
        first, last = (
            torch.full((len(place), tokens.grid.n + 1), empty, device=device).scatter_reduce(1, place, of, reduce=how)
            for how, empty in (("amin", frames), ("amax", -1))
        )
        own = tokens.origin.clamp(min=0)
        first, last = first.gather(1, own), last.gather(1, own)
        group = (first + frames * (last > first)).masked_fill(~tokens.visual, 2 * frames)
        sizes = torch.zeros(len(group), 2 * frames + 1, dtype=torch.long, device=device)
        sizes = sizes.scatter_add_(1, group, torch.ones_like(group))[:, :-1].cpu()
        given = divide(torch.minimum(view.target, tokens.counts()), sizes, sizes)
        return Decision(keep=best_of_groups(score, group, given), score=score, count=view.target)


def _frame_of_cells(view: DecodeView) -> tuple[Tensor, int]:
    """[G] long on the CPU, the frame that each cell lies in, those of several encoders counted on; and how many."""
    grid, towers = view.tokens.grid, list(view.layout.grids.values())
    if not view.layout.framed:
        return torch.zeros(grid.n, dtype=torch.long), 1
    parts = [grid] if grid.t > 1 or sum(tower.n for tower in towers) != grid.n else towers
    frames = sum(part.t for part in parts)
    each = torch.tensor([part.h * part.w for part in parts for _ in range(part.t)])
    return torch.arange(frames).repeat_interleave(each), frames
