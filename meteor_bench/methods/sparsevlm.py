"""SparseVLM: Visual token sparsification for efficient vision-language model inference (ICML 2025).

arXiv 2410.04417, section 3, and the authors' later version of the code.

Training-free, inside the language model, at the outputs of layers 2, 6 and 15 (0-based) of 32. The text tokens that
the image speaks to are raters, chosen once on the input embeddings: those whose share of a softmax over the text of
``V·T'``, averaged over the visual tokens, is above the mean. Visual tokens are ranked by the raters' attention.

- Version 1.5: attention averaged over heads and raters. Of the dropped, the best ``int(0.3·dropped) + 1`` are recycled:
  grouped around ``int(recycled/10) + 1`` density peaks, each group's mean appended after the kept tokens; positions
  renumbered.
- Version 2: attention divided by its position bias ``2·sum_f cos(distance·f)/sqrt(d)`` (f: RoPE's frequencies), over
  the 14 of 32 heads that give the visual tokens most; nothing is recycled; positions kept.

Deviations:

- The published counts (v1.5: 300, 200, 110; 303, 110, 36; 66, 30, 17 kept of 576, the means on top; v2: 300, 200, 118;
  238, 108, 60; 246, 54, 28; 66, 34, 20) become exponents a of ``N·(T/N)^a``, interpolated over ln(T/N) between them and
  constant outside; T counts the means. A published T gives the published counts.
- v1.5: the count after a point is exact: the most tokens are kept for which kept and means make it. Means are at most
  half of it, so that every target can be reached.
- v1.5: no random noise on the densities (ties go to the lower index); a mean is not divided by (count + 1e-6).
- v2: the bias is held at 1/20 of its value at distance 0 or more: with few frequencies it can vanish or change sign.
  It is taken at the original positions whatever the position policy.
- The points are scaled to the model's depth: outputs of the layers nearest to 3/32, 7/32, 16/32 of it; 14 of 32 heads
  become the same share, rounded. N is the length of the unpruned visual sequence; all encoders are ranked in one list.
- Raters include the template's tokens after the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import exp, floor, log
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device, places
from meteor_bench.core.pick import kept_places
from meteor_bench.core.pruner import Decision, DecodePoint, DecodeView, Fact, Points, Pruner, keep_top
from meteor_bench.core.rows import ordered
from meteor_bench.methods.shared.density import density_scores
from meteor_bench.methods.shared.helpers import depth_points, one_each

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["Clusters", "SparseVLM", "density_peaks", "raters", "schedule"]

STOPS = (Fraction(3, 32), Fraction(7, 32), Fraction(16, 32))
HEADS = Fraction(14, 32)
# Tokens after each point (v1.5: kept and means), of 576.
PUBLISHED = {
    "v1.5": ((309, 204, 113), (312, 117, 39), (82, 32, 18)),
    "v2": ((300, 200, 118), (238, 108, 60), (246, 54, 28), (66, 34, 20)),
}
MEMO = "sparsevlm.raters"


def schedule(version: str, n: int, target: int, point: int) -> int:
    """Tokens after a point (0, 1, 2) on the way from n to ``target``, never fewer than that."""
    if point == 2 or target >= n:
        return target
    rows = sorted((log(row[-1] / 576), log(row[point] / 576) / log(row[-1] / 576)) for row in PUBLISHED[version])
    at = log(target / n)
    power = rows[0][1] if at <= rows[0][0] else rows[-1][1]
    for (left, low), (right, high) in pairwise(rows):
        if left <= at <= right:
            power = low + (high - low) * (at - left) / (right - left)
    return max(target, floor(n * exp(at * power) + 0.5))


def raters(x: Tensor, visual: Tensor, text: Tensor, text_valid: Tensor) -> Tensor:
    """[B, T] bool, the text tokens above the mean; all of them where none is.

    Args:
        x: [B, N, D] and text: [B, T, D], input embeddings.
    """
    score = x.float() @ text.float().transpose(1, 2)  # [B, N, T]
    share = score.masked_fill(~text_valid[:, None], -torch.inf).softmax(2)
    mean = (share * visual[..., None]).sum(1) / visual.sum(1).clamp(min=1)[:, None]  # [B, T]
    above = (mean > mean.sum(1, keepdim=True) / text_valid.sum(1, keepdim=True)) & text_valid
    return torch.where(above.any(1, keepdim=True), above, text_valid)


class Clusters:
    """Groups of a batch of point sets.

    Attributes:
        centre: [B, R] bool.
        rank: [B, R] long, a centre's place among the centres by falling score.
        into: [B, R] long, the centre that each point joins; -1 where there is no point.
    """

    def __init__(self, centre: Tensor, rank: Tensor, into: Tensor) -> None:
        self.centre, self.rank, self.into = centre, rank, into


def density_peaks(x: Tensor, present: Tensor | None, k: Tensor) -> Clusters:
    """Density-peak clustering with k-nearest-neighbour densities (Du et al. 2016).

    The k highest `density_scores`, of k neighbours, are centres, everyone joins the nearest. Of two equal scores or
    distances that of the lower index (of centres: of the higher score) comes first.

    Args:
        x: [B, R, D].
        present: [B, R] bool; None: all are.
        k: [B] long on the CPU, clusters, at most the points present.
    """
    b, n = x.shape[:2]
    score, distance = density_scores(x, present, k)
    at, most = places(n, x.device), int(k.max())
    order = ordered(score, True)
    rank = torch.empty_like(order).scatter_(1, order, at.expand(b, n))
    # Among equally near centres the one with the lower rank: the columns in order of rank.
    by_rank = distance.gather(2, order[:, None, :most].expand(b, n, most))
    centre = rank < most
    if not bool((k == most).all()):
        each = on_device(k, x.device)[:, None]
        centre = rank < each
        by_rank = by_rank.masked_fill_((at[:most] >= each)[:, None], torch.inf)
    centre = centre if present is None else centre & present
    into = order.gather(1, by_rank.argmin(2))
    into = torch.where(centre, at, into)
    return Clusters(centre, rank, into if present is None else into.masked_fill(~present, -1))


@dataclass(frozen=True)
class SparseVLM(Pruner):
    """Attributes: version: "v1.5" or "v2"."""

    version: Literal["v1.5", "v2"] = "v1.5"

    fact: ClassVar[Fact] = Fact(year=2024, paper="arXiv 2410.04417", stages=("decode",), needs=("attention", "text"))
    ordered: ClassVar[bool] = False

    @property
    def positions(self) -> Literal["keep", "renumber"]:  # type: ignore[override]
        """Version 1.5 renumbers, version 2 keeps."""
        return "renumber" if self.version == "v1.5" else "keep"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The input, for the raters, and three layers."""
        layers = depth_points("sparsevlm", vlm, STOPS)
        rope = self.version == "v2"
        stops = (DecodePoint(before=layer, attention="text", rope=rope) for layer in layers)
        return Points(decode=(DecodePoint(before=0), *stops))

    def decode(self, view: DecodeView) -> Decision:
        """Choose the raters first, then what they look at."""
        visual = view.tokens.visual
        if view.point == 0:
            chosen = raters(view.tokens.x, visual, view.text, view.text_valid)
            return Decision(keep=visual, memo={MEMO: chosen})
        score = self._score(view, view.memo[MEMO])
        n = view.tokens.grid.n
        values, which = torch.unique(view.target, return_inverse=True)  # one or two in a batch
        wanted = [schedule(self.version, n, value, view.point - 1) for value in values.tolist()]
        total = torch.minimum(torch.tensor(wanted)[which], view.tokens.counts())
        if self.version == "v2":
            return Decision(keep=keep_top(score, total, view.candidates), score=score, count=total)
        return _recycled(view, score, total)

    def _score(self, view: DecodeView, chosen: Tensor) -> Tensor:
        """[B, N] attention of the raters."""
        a = view.attention.float() * chosen[:, None, :, None]  # [B, H, T, N]
        if self.version == "v2":
            words = torch.arange(a.shape[2], device=a.device)[None, :, None]
            distance = view.tokens.grid.n + words - view.tokens.origin.clamp(min=0)[:, None]  # [B, T, N]
            bias = view.rope.maximum(0.05 * view.rope[0])
            a = (a / bias[distance][:, None]).masked_fill(~view.tokens.visual[:, None, None], 0.0)
            heads = max(1, floor(HEADS * a.shape[1] + Fraction(1, 2)))
            given = a.sum((2, 3))  # [B, H]
            best = keep_top(given, torch.full_like(view.target, heads), None)
            return (a * best[:, :, None, None]).sum((1, 2)) / (heads * chosen.sum(1, keepdim=True))
        return a.mean(1).sum(1) / chosen.sum(1, keepdim=True)


def _means(dropped: Tensor, most: Tensor) -> Tensor:
    """How many means a number of dropped tokens is recycled into, at most ``most``."""
    recycled = (0.3 * dropped.double()).long() + 1
    return torch.where(dropped > 0, torch.minimum(recycled // 10 + 1, most), 0)


def _recycled(view: DecodeView, score: Tensor, total: Tensor) -> Decision:
    """Keep the best, append means of the best of the rest; ``total`` [B] tokens in all, on the CPU."""
    visual, n = view.tokens.visual, view.tokens.x.shape[1]
    count, most = view.tokens.counts(), total // 2
    # kept + means(count - kept) rises by 0 or 1 with each token kept: the largest that gives the total.
    kept = torch.arange(n + 1).expand(len(total), -1)  # [B, N + 1]
    makes = kept + _means(count[:, None] - kept, most[:, None])
    k = torch.where((makes == total[:, None]) & (kept <= count[:, None]), kept, 0).amax(1)
    keep = keep_top(score, k, view.candidates)
    dropped = count - k
    means = _means(dropped, most)
    r = torch.where(means > 0, (0.3 * dropped.double()).long() + 1, 0)
    width = int(r.max()) if len(r) else 0
    if width == 0:
        return Decision(keep=keep, score=score, count=k)
    chosen = keep_top(score, r, ~keep if view.tokens.plain else visual & ~keep)
    full = bool((r == width).all())
    where = kept_places(chosen, width, ragged=not full)  # [B, R], in sequence order
    present = None if full else places(width, visual.device) < on_device(r, visual.device)[:, None]
    x = take_rows(view.tokens.x, where)
    found = density_peaks(x, present, means)
    own = where if present is None else torch.where(present, where, n)  # column n takes what is no point
    joined = found.into if present is None else found.into.clamp(min=0)
    into = torch.full((len(total), n + 1), -1, device=visual.device)
    into = into.scatter_(1, own, where.gather(1, joined))[:, :n]
    order = torch.zeros(len(total), n + 1, dtype=torch.long, device=visual.device)
    order = order.scatter_(1, own, (found.rank + 1) * found.centre)[:, :n]
    return Decision(
        keep=keep | (order > 0),
        merge_into=into,
        weight=one_each(view.tokens),
        score=score,
        order=order,
        count=total,
    )
