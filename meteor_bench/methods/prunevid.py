"""PruneVid: Visual Token Pruning for Efficient Video Large Language Models (ACL 2025, arXiv 2412.16117), section 3.

Written from a summary of the paper; how a clip is cut follows the authors' code (`refined`) and was compared with it,
the rest was compared with plain loops alone.

Before the language model: frames, by their mean tokens, are clustered around density peaks, a quarter as many as
there are frames, rounded down; a cluster keeps its longest run of neighbouring frames, other frames join the longer run
beside them, and what then stands together is a segment. A position whose tokens in a segment are more than 0.8 alike
(mean cosine of all pairs of frames) is static and averaged over it. Then the moving tokens of each frame, and the
averaged ones of each segment, are clustered around density peaks in turn, everyone joining the nearest: a cluster's
mean stands where its peak was. In the language model (before layer 10 of 32) those stay that some token of the
question, in some head, attends to most: 0.4 of them.

Deviations:

1. The paper clusters to half of the tokens each time, whatever that leaves; here to the same share each time, such that
   T / 0.4 tokens are left in all, and T at the end, both exactly (largest remainder). `first` is that 1 / 0.4.
2. Where a clip is so still that averaging leaves fewer than that, as many of the averaged ones stay by themselves as
   are missing, those least like their mean first, and nothing is clustered.
3. There is at least one peak among frames, and no random noise on densities. The authors' code clusters no group of 14
   tokens or fewer; here the count decides.
4. The question are all prompt tokens behind the image. A picture is a segment of one frame with nothing static.
5. On an independent fusion each encoder is reduced on its own, the budget split in proportion to the token counts. A
   token that is gone is not static.
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
from meteor_bench.methods.shared.scorers import FuseChooser
from meteor_bench.methods.shared.still import averaged, still_of, undone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meteor_bench.core.model import VLM

__all__ = ["PruneVid", "pairwise_likeness", "refined"]

EARLY = Fraction(10, 32)
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
class PruneVid(FuseChooser):
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
        keep, into, weight = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return decided(tokens, clip, keep, share, into=into, weight=weight)

    def _row(self, clip: Clip, row: int, total: int) -> tuple[Tensor, Tensor, Tensor]:
        """[F·P] of one clip: what stays, where the rest ends, what each counts there."""
        frames, x = clip.shape[1], clip.x[row].flatten(0, 1)
        device, own = x.device, places(len(x), x.device)
        segments = self._segments(clip, row)
        still = still_of(clip.known[row], segments, self._static(clip, row, segments))
        if int(still.caps.sum()) <= total:
            into = undone(x, still, total)
            return into == own, into, torch.ones(len(x), device=device)
        mean, into = averaged(x, still)
        cells = torch.arange(len(x)).view(frames, -1)
        groups = [*(cells[f][still.moving[f]] for f in range(frames)), *still.heads]
        given = divide(torch.tensor([total]), still.caps[None], still.caps[None])[0]
        keep, to = torch.zeros(len(x), dtype=torch.bool, device=device), torch.full_like(own, -1)
        for group, peaks in zip(groups, given.tolist(), strict=True):
            if peaks == 0:
                continue
            at = on_device(group, device)
            peak, nearest = clustered(mean[at], peaks, NEIGHBOURS)
            to[at], keep[at] = at[nearest], peak
        return keep, to[into], 1 / on_device(still.length, device)

    def _segments(self, clip: Clip, row: int) -> list[range]:
        """Neighbouring frames of one cluster."""
        frames = clip.shape[1]
        if frames == 1:
            return [range(1)]
        mean = clip.x[row].sum(1) / clip.there[row].sum(1).clamp(min=1)[:, None]
        _, nearest = clustered(mean, max(1, int(self.frames * frames)), NEIGHBOURS)
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
        """What any token of the question looks for in any head."""
        score = view.attention.float().amax((1, 2))
        return Decision(keep=keep_top(score, view.target, view.candidates), score=score, count=view.target)
