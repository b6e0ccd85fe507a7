"""PruMerge and PruMerge+: LLaVA-PruMerge: Adaptive Token Reduction (ICCV 2025, arXiv 2403.15388), sections 3.2 to 3.4.

After the encoder. a = the class token's attention to the patches, all heads taken as one of full width (scale D^-1/2,
softmax over the class token too). The tokens above ``Q3 + c·IQR`` of a stay. Each adds the sum of its 32 nearest others
by the cosine of the full-width keys, weighted by a (not normalised, other kept ones included); one extra token is the
sum of the dropped ones weighted by a. "+" also keeps a uniform sample of three tokens for each outlier. The outliers
stand in falling order of attention, behind them the uniform sample in spatial order, the extra token last.

Deviations:

- The authors' c is 1.5, and the count follows from the image alone. Here the mean count is calibrated to meet the
  budget, per encoder in proportion to its tokens: prumerge by c; prumerge+ by the number of uniform tokens for each
  outlier (published: 3) with c as published, and where outliers alone are too many, by a higher c and no uniform ones.
  `whisker` = 1.5 restores the published rule, whose count ignores the budget.
- Where an image keeps everything, nothing is merged into it and nothing is moved.
- `order` = spatial puts all tokens in spatial order, the extra one where the most attended dropped token was: with
  positions renumbered, the authors' order leaves no trace of where a patch was.
- In pictures the extra token stands for the dropped token with the highest attention.
- Of equal similarities and attentions the lower index comes first.
- "+": the uniform sample is evenly spread; the authors take every int(int(1/share)/3)-th token, which fails at shares
  above a third and jumps between steps. `official_quirks` restores it (with a step of at least 1).
- Keys and attention are those of the last block that the model runs; the authors' are from one block after it, which
  LLaVA runs for nothing else.
- On a shared fusion the encoders' attentions are scaled to a sum of 1 and averaged. There, and in a convolutional
  encoder, features take the keys' place. Several encoders, frames, encoders without a class token or attention: see
  `shared.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device, places, upload
from meteor_bench.core.pruner import Decision, Fact, Stage, View, keep_top
from meteor_bench.core.rows import ordered, ranks
from meteor_bench.core.settings import Range
from meteor_bench.methods.shared.adaptive import AdaptiveScorer
from meteor_bench.methods.shared.helpers import (
    rank_of,
    strided,
    unit,
)
from meteor_bench.methods.shared.orders import AuthorsOrder

__all__ = ["PruMerge", "PruMergePlus", "outlyingness"]

WHISKER, SAMPLES = 1.5, 3  # as published
NEVER = -1e9  # evidence of a token that is no outlier


def outlyingness(attention: Tensor, visual: Tensor | None) -> Tensor:
    """[B, N] float64 ``(a - Q3) / IQR`` over a row's visual tokens (linear percentiles), -inf elsewhere.

    Args:
        visual: [B, N] bool; None: all.
    """
    a = attention.double()
    if a.shape[1] == 0:
        return a
    if visual is None:
        ranked = a.gather(1, ordered(a, False))
        low, high = _percentile(ranked, 0.25), _percentile(ranked, 0.75)
        return (a - high) / (high - low).clamp(min=1e-30)
    a = a.masked_fill(~visual, torch.nan)
    low, high = torch.nanquantile(a, upload([0.25, 0.75], a.device, a.dtype), dim=1, keepdim=True)
    outlying: Tensor = (a - high) / (high - low).clamp(min=1e-30)
    return outlying.nan_to_num(nan=-torch.inf)


def _percentile(ranked: Tensor, share: float) -> Tensor:
    """[B, 1] of rising values [B, N], as `torch.quantile` has it; the host knows where to look."""
    at = share * (ranked.shape[1] - 1)
    below, above = floor(at), ceil(at)
    return ranked[:, below, None].lerp(ranked[:, above, None], at - below)


@dataclass(frozen=True)
class PruMerge(AuthorsOrder, AdaptiveScorer):
    """Attributes are explained at the top of the file.

    Attributes:
        whisker: c; 0 calibrates it to the budget.
        neighbours: tokens that each kept one takes in.
    """

    whisker: Annotated[float, Range(least=0)] = 0.0
    neighbours: Annotated[int, Range(least=0)] = 32

    fact: ClassVar[Fact] = Fact(year=2024, paper="arXiv 2403.15388", stages=("encode",), needs=("attention", "keys"))
    title: ClassVar[str] = "prumerge"
    keys: ClassVar[bool] = True
    single_head: ClassVar[bool] = True
    scaling: ClassVar[Literal["range", "sum"]] = "sum"

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """The threshold, unless it is given."""
        return super().calibration if self.whisker == 0 else ()

    def evidence(self, view: View, score: Tensor) -> Tensor:
        """Outlyingness of each token."""
        return outlyingness(score, view.candidates)

    def counts(self, values: Tensor, tokens: Tensor) -> Tensor:
        """Outliers, what is kept besides them, and the extra token."""
        # Calibration only: a row at a time, as each takes [M, n].
        return torch.stack([self._left(row) for row in values])

    def _left(self, values: Tensor) -> Tensor:
        """[M + 1] tokens left when 0, 1, … M of a row's values [M] lie above the threshold."""
        real = values[~values.isnan()]
        n = len(real)
        kept = _first(real, torch.arange(n + 1))
        return _with_extra(kept, len(values) + 1)

    def outliers(self, view: View, score: Tensor) -> tuple[Tensor, Tensor | None]:
        """[B, N] bool, the outliers; and what is kept besides them, None where that is nothing."""
        return self.evidence(view, score) > (self.whisker or self.threshold(view)), None

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Outliers, each with its neighbours, and one token for the rest."""
        visual, count = view.tokens.visual, view.tokens.counts()
        outliers, besides = self.outliers(view, score)
        kept = outliers if besides is None else outliers | besides
        some = share > 0
        if not bool((some & (share < count)).all()):
            every, any_ = (on_device(x, visual.device)[:, None] for x in (share >= count, some))
            kept = torch.where(every, visual, kept & any_)
        dropped = ~kept if view.tokens.plain else visual & ~kept
        if not bool(some.all()):
            dropped = dropped & on_device(some, visual.device)[:, None]
        extra = keep_top(score, torch.ones_like(count), dropped)
        stays = kept | extra
        own = kept.sum(1).cpu()
        merges = some & (own < count)  # rows that drop any
        left = own + merges.long()
        mix = self._mix(view, score, stays, int(left.max()), extra, dropped, merges)
        into = extra.to(torch.uint8).argmax(1, keepdim=True) if extra.shape[1] > 0 else extra.long()
        into = into.expand(extra.shape)
        if not bool(some.all()):
            into = into.masked_fill(~on_device(some, into.device)[:, None], -1)
        order = None if self.ordered else _behind_outliers(score, outliers, extra)
        if order is not None and not bool(merges.all()):
            order = order.masked_fill(~on_device(merges, order.device)[:, None], 0)
        return Decision(keep=stays, count=left, merge_into=into, mix=mix, score=score, order=order)

    def _mix(
        self, view: View, score: Tensor, stays: Tensor, width: int, extra: Tensor, dropped: Tensor, merges: Tensor
    ) -> Tensor:
        """[B, K, N] what each surviving token is made of.

        Args:
            width: K.
            merges: [B] bool on the CPU, rows that drop any.
        """
        row = ordered(stays, True)[:, :width]  # [B, K] the survivors, in order
        itself = row[..., None] == places(stays.shape[1], row.device)  # [B, K, N]
        v = unit(view.compared)
        near = (take_rows(v, row) @ v.transpose(1, 2)).masked_fill_(itself, -torch.inf)
        if not view.tokens.plain:
            near = near.masked_fill_(~view.tokens.visual[:, None], -torch.inf)
        rows = near.flatten(0, 1)
        around = keep_top(rows, torch.full((len(rows),), self.neighbours), None).view_as(near)
        if not view.tokens.plain:
            around = around & view.tokens.visual[:, None]
        weight = score.float()[:, None]
        whole = (around * weight).masked_fill_(itself, 1.0)
        if not bool(merges.all()):
            whole = torch.where(on_device(merges, row.device)[:, None, None], whole, itself.float())
        return torch.where(extra.gather(1, row)[..., None], weight * dropped[:, None], whole)


def _behind_outliers(score: Tensor, outliers: Tensor, extra: Tensor) -> Tensor:
    """[B, N] sort keys: outliers by falling score, then the others as they stand, then the extra token."""
    n = score.shape[1]
    behind = places(2 * n, score.device)[n:]
    return torch.where(outliers, ranks(score), behind).masked_fill_(extra, 2 * n)


def _first(values: Tensor, count: Tensor) -> Tensor:
    """[K, n] bool, for each ``count`` [K] that many of the highest values [n]."""
    rank = torch.empty_like(values, dtype=torch.long)
    rank[values.argsort(descending=True, stable=True)] = torch.arange(len(values))
    return rank < count[:, None]


def _with_extra(kept: Tensor, width: int) -> Tensor:
    """[width] tokens left where ``kept`` [K, n] are, the one for the rest included; the last count repeats."""
    count = kept.sum(1)
    count = count + (count < kept.shape[1]).long()
    return torch.cat([count, count[-1:].expand(width - len(count))])


@dataclass(frozen=True)
class PruMergePlus(PruMerge):
    """Attributes: official_quirks: the authors' step between uniform samples; and see `PruMerge`.

    What is calibrated are the samples for each outlier, u: the s-th sample comes once u > (s - 1/2) / m, m the row's
    outliers. A row's evidence holds for each token, side by side, its outlyingness and one such step as a negative
    number, so that one threshold raises u from 0 once all outliers are in.
    """

    official_quirks: bool = False

    title: ClassVar[str] = "prumerge+"

    def evidence(self, view: View, score: Tensor) -> Tensor:
        """[R, 2·N] outlyingness above the whisker, and the steps of the samples."""
        visual = view.tokens.visual
        outlying = outlyingness(score, view.candidates)
        beyond = outlying > WHISKER
        both = torch.stack([torch.where(beyond, outlying, NEVER), _steps(visual, beyond)], -1)
        return both.masked_fill_(~visual[..., None], -torch.inf).flatten(1)

    def outliers(self, view: View, score: Tensor) -> tuple[Tensor, Tensor | None]:
        """As published with a given whisker, else what lies above the threshold."""
        visual, outlying = view.tokens.visual, outlyingness(score, view.candidates)
        if self.whisker > 0:
            found = outlying > self.whisker
            m = found.sum(1)
            return found, self.uniform(visual, torch.minimum(SAMPLES * m, on_device(view.tokens.counts(), m.device)))
        threshold = self.threshold(view)
        found = outlying > max(threshold, WHISKER)
        if threshold >= 0:  # above all steps
            return found, None
        return found, self.uniform(visual, ((_steps(visual, found) > threshold) & visual).sum(1))

    def _left(self, values: Tensor) -> Tensor:
        outlying, step = values[0::2], values[1::2]
        outlying = outlying[~outlying.isnan()]
        m, n = int((outlying > 0).sum()), int((~step.isnan()).sum())
        above = torch.arange(m + n + 1)
        samples = self.uniform(torch.ones(len(above), n, dtype=torch.bool), (above - m).clamp(min=0))
        return _with_extra(_first(outlying, above.clamp(max=m)) | samples, len(values) + 1)

    def uniform(self, visual: Tensor, samples: Tensor) -> Tensor:
        """[B, N] bool, ``samples`` [B] tokens spread evenly over the sequence, or every so many-th but the last."""
        if not self.official_quirks:
            return strided(visual, samples)
        n = visual.sum(1)
        step = (n // samples.clamp(min=1)).clamp(min=1)[:, None]
        place = rank_of(visual)
        return visual & (place % step == 0) & (place < n[:, None] - 1) & (samples > 0)[:, None]


def _steps(visual: Tensor, outliers: Tensor) -> Tensor:
    """[B, N] float64, by its place the step of each sample; of what is not visual anything."""
    m = outliers.sum(1, keepdim=True).clamp(min=1)
    return (rank_of(visual) + 0.5).double() / -m
