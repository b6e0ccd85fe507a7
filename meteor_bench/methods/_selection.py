"""What methods that choose tokens at the encoders' outputs share: where they are asked, several encoders, frames.

A method scores the tokens of one encoder (`Selector.score`) and chooses k of a sequence by that score
(`Selector.choose`); everything else is here.

- Every frame is an image of its own; a clip's budget is split evenly over its frames, the first take the remainder.
- Several encoders, independent fusion: each is pruned on its own at its output, before its projector, budgets
  proportional to the token counts.
- Several encoders, shared fusion: each encoder's scores are resampled to the common grid (averaged where it is
  coarser, repeated where it is finer), brought to [0, 1] frame by frame and averaged; grid positions are chosen by
  the mean. `average` says which encoders take part: all, those made of attention blocks (sequence), or the one with
  the most tokens (lead). Where a method compares tokens, it compares the concatenated features of all encoders.
  With one encoder and scores that only rank, this is the published method.
- The class token's attention: a sequence encoder without one gives the mean attention received over heads and queries
  (recorded); a convolutional encoder the distance 1 - cos to the mean token, scaled to a sum of 1 (recorded).
- The papers read "layer -2" of a CLIP of which LLaVA uses nothing after that layer: the block whose output is used. So
  `block` is -1 here, the last block that the model runs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import (
    Decision,
    EncodePoint,
    FusePoint,
    Points,
    Pruner,
    Stage,
    TowerAttention,
    View,
    keep_top,
)
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.errors import ConfigError, UnsupportedError
from meteor_bench.methods._common import check_choice, frame_shares, shares, similarity_to_mean

if TYPE_CHECKING:
    from meteor_bench.models.base import VLM

__all__ = [
    "AdaptiveSelector",
    "AttentionSelector",
    "Frames",
    "Selector",
    "fit_threshold",
    "frames_of",
    "join_decision",
    "resample",
    "scale",
]


class Frames(NamedTuple):
    """A fuse point's samples cut into rows of one frame each (or left whole where they are no full grid any more).

    Attributes:
        view: [R] rows.
        score: [R, n].
        share: [R] long.
        per_sample: rows per sample.
    """

    view: View
    score: Tensor
    share: Tensor
    per_sample: int


def frames_of(view: View, score: Tensor, share: Tensor) -> Frames:
    """Cut the samples [B] of a fuse point into frames, scores [B, N] and shares [B] with them."""
    tokens, grid = view.tokens, view.tokens.grid
    whole = tokens.x.shape[1] == grid.n and bool(tokens.visual.all())
    if grid.t == 1 or not whole:
        return Frames(view, score, share, 1)
    t, b = grid.t, tokens.x.shape[0]
    rows = Tokens.dense(tokens.x.reshape(b * t, grid.n // t, -1), Grid(1, grid.h, grid.w))
    frame = torch.arange(t, device=share.device)
    each = (share[:, None] // t + (frame < share[:, None] % t)).flatten()
    return Frames(replace(view, tokens=rows, target=each), score.reshape(b * t, -1), each, t)


def join_decision(decision: Decision, frames: int) -> Decision:
    """A decision about rows of frames [B·frames, n] as one about samples [B, frames·n]."""
    if frames == 1:
        return decision
    rows, n = decision.keep.shape
    b = rows // frames

    def long(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.reshape(b, frames * n)

    into, mix = decision.merge_into, decision.mix
    if into is not None:
        shift = n * torch.arange(frames, device=into.device).repeat(b)[:, None]
        into = torch.where(into >= 0, into + shift, into)
    if mix is not None:
        k = mix.shape[1]
        block = torch.eye(frames, dtype=mix.dtype, device=mix.device)[None, :, None, :, None]
        mix = (mix.reshape(b, frames, k, 1, n) * block).reshape(b, frames * k, frames * n)
        used = torch.arange(k, device=mix.device) < decision.keep.sum(1)[:, None]  # [R, k]
        order = (~used.reshape(b, -1)).to(torch.uint8).argsort(dim=1, stable=True)
        mix = mix.gather(1, order[..., None].expand_as(mix))
    return Decision(
        keep=decision.keep.reshape(b, -1),
        merge_into=long(into),
        weight=long(decision.weight),
        normalise=decision.normalise,
        mix=mix,
        score=long(decision.score),
    )


def resample(score: Tensor, source: Grid, grid: Grid) -> Tensor:
    """[B, source.n] scores -> [B, grid.n]; cells that had been dropped (-inf) count as the lowest of their sample."""
    lowest = score.masked_fill(score == -torch.inf, torch.inf).amin(1, keepdim=True)
    score = torch.where(score == -torch.inf, lowest, score)
    if source == grid:
        return score
    planes = score.reshape(-1, 1, *source)
    return F.adaptive_avg_pool3d(planes, (grid.t, grid.h, grid.w)).flatten(1)


def scale(score: Tensor, frames: int, kind: str) -> Tensor:
    """[B, N] scores with each frame brought to [0, 1] ("range") or to a sum of 1 ("sum")."""
    rows = score.reshape(score.shape[0] * frames, -1)
    if kind == "sum":
        out = rows / rows.sum(1, keepdim=True).clamp(min=1e-12)
    else:
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        out = (rows - low) / (high - low).clamp(min=1e-12)
    return out.reshape(score.shape)


@dataclass(frozen=True)
class Selector(Pruner):
    """Attributes are explained at the top of the file.

    Attributes:
        average: whose scores count on a shared fusion: all, sequence or lead.
    """

    average: Literal["all", "sequence", "lead"] = "all"

    title: ClassVar[str] = ""
    statistic: ClassVar[TowerAttention | None] = None  # the attention wanted
    keys: ClassVar[bool] = False  # whether keys are wanted
    single_head: ClassVar[bool] = False
    projected: ClassVar[bool] = False  # choose among projected tokens
    scaling: ClassVar[Literal["range", "sum"]] = "range"  # how scores of several encoders are made comparable
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def __post_init__(self) -> None:
        check_choice(self.title, "average", self.average, ("all", "sequence", "lead"))

    def score(self, view: View) -> Tensor:
        """[R, N] float32 score of an encoder's tokens, higher is kept; what special tokens get does not matter."""
        if view.attention is not None:
            return view.attention.float()
        distance = (1 - similarity_to_mean(view.tokens.x, view.tokens.visual)).masked_fill(~view.tokens.visual, 0.0)
        return distance / distance.sum(1, keepdim=True).clamp(min=1e-12)

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Keep ``share`` [R] tokens of each row by their score."""
        return Decision(keep=keep_top(score, share, view.tokens.visual), score=score)

    def read_at(self, depth: int) -> int | None:
        """Index of the block that the attention and keys are read from; None for the last one."""
        return None

    # ------------------------------------------------------------ where, and with several encoders

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """The towers' outputs, and the fusion where the decision is made there."""
        shared = vlm.fusion.kind == "shared"
        towers = {name: tower.depth for name, tower in vlm.towers.items()}
        if shared and self.average == "lead":
            towers = {vlm.lead: towers[vlm.lead]}
        elif shared and self.average == "sequence":
            towers = {name: depth for name, depth in towers.items() if depth > 0}
            if not towers:
                raise UnsupportedError(
                    f"{self.title} with average=sequence needs an encoder with attention; '{vlm.name}' has none"
                )
        blocks: dict[str, int] = {}
        for name, depth in towers.items():
            at = self.read_at(depth) if depth > 0 else None
            if at is not None and not 0 <= at < depth:
                raise UnsupportedError(
                    f"{self.title} reads block {at - depth} from the end of tower '{name}' of '{vlm.name}', "
                    f"which has {depth}"
                )
            if at is not None:
                blocks[name] = at
        end = EncodePoint(
            after=towers,
            attention=self.statistic,
            attention_block=blocks,
            keys=self.keys,
            single_head=self.single_head,
        )
        fuse = FusePoint(features=shared and not self.projected) if shared or self.projected else None
        return Points(encode=(end,), fuse=fuse)

    def encode(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        """Choose, or only score where the fuse point chooses."""
        first = next(iter(views.values()))
        assert first.layout is not None
        if self.projected or first.layout.fusion == "shared":
            return {name: Decision(keep=v.tokens.visual, score=self.score(v)) for name, v in views.items()}
        share = frame_shares(first)
        return {name: self.choose(v, self.score(v), share[name]) for name, v in views.items()}

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        """Choose by the scores of the encode point, frame by frame."""
        decisions = {}
        for name, share in shares(views).items():
            part = self.cut(views[name], share)
            decisions[name] = join_decision(self.choose(part.view, part.score, part.share), part.per_sample)
        return decisions

    def cut(self, view: View, share: Tensor) -> Frames:
        """A fuse view's frames with their scores."""
        return frames_of(view, self.combined(view), share)

    def combined(self, view: View) -> Tensor:
        """[B, N] the score of each token of a fuse point, from all the encoders that it is made of."""
        assert view.layout is not None
        grid, origin = view.tokens.grid, view.tokens.origin.clamp(min=0)
        if view.tower in view.scores:
            return view.scores[view.tower].gather(1, origin)
        each = [
            scale(resample(score, view.layout.grids[name], grid), grid.t, self.scaling)
            for name, score in view.scores.items()
        ]
        return torch.stack(each).mean(0).gather(1, origin)


@dataclass(frozen=True)
class AttentionSelector(Selector):
    """A selector that reads an encoder's attention.

    Attributes:
        block: the block it is read from, -1 for the last one that the model runs, -2 for the one before it.
    """

    block: int = -1

    statistic: ClassVar[TowerAttention | None] = "cls"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block >= 0:
            raise ConfigError(f"{self.title}: block={self.block} is counted from the end; take -1 for the last one")

    def read_at(self, depth: int) -> int | None:
        """Counted from the end."""
        return depth + self.block


@dataclass(frozen=True)
class AdaptiveSelector(AttentionSelector):
    """A selector whose count depends on the image and meets the budget on average.

    A row keeps the more tokens the more of its `evidence` lies above a threshold, which is calibrated, one for each
    encoder ("fused" on a shared fusion). Where the budget leaves a row nothing, or everything, that is what it keeps.
    """

    @property
    def exact(self) -> bool:
        """On average only."""
        return False

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """The threshold: at the encoders' outputs, or on a shared fusion where they meet."""
        return ("encode", "fuse")

    @abstractmethod
    def evidence(self, view: View, score: Tensor) -> Tensor:
        """[R, M] float64 values to hold against the threshold; NaN or -inf where a row has fewer."""

    @abstractmethod
    def counts(self, values: Tensor, tokens: Tensor) -> Tensor:
        """[S, M + 1] tokens that a row keeps when 0, 1, … M of its values lie above the threshold.

        Args:
            values: [S, M], what `evidence` gave, NaN where a row has fewer.
            tokens: [S] long, the row's visual tokens.
        """

    def threshold(self, view: View) -> float:
        """The calibrated threshold of the view's tower."""
        found = view.facts.get(f"{self.title}.threshold", {}).get(view.tower)
        if found is None:
            raise ConfigError(f"{self.title}: the threshold of '{view.tower}' is not measured; calibrate first")
        return float(found)

    def observe(self, view: View) -> Mapping[str, Tensor]:
        """Evidence, shares and token counts, where the choice is made."""
        layout = view.layout
        assert layout is not None
        if view.tower == "fused":
            part = self.cut(view, view.target)
            view, score, share = part.view, part.score, part.share
        elif layout.fusion == "independent":
            score, share = self.score(view), frame_shares(view)[view.tower]
        else:
            return {}
        values = self.evidence(view, score).masked_fill(~view.tokens.visual.any(1, keepdim=True), torch.nan)
        return {
            f"values.{view.tower}": values.masked_fill(values == -torch.inf, torch.nan),
            f"share.{view.tower}": share,
            f"tokens.{view.tower}": view.tokens.counts(),
        }

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """One threshold for each tower, with the counts it gives."""
        towers = [name.removeprefix("share.") for name in observed if name.startswith("share.")]
        if not towers:
            return {}
        found: dict[str, float] = {}
        kept: list[Tensor] = []
        wanted: list[Tensor] = []
        for tower in towers:
            values, share, tokens = (observed[f"{name}.{tower}"].cpu() for name in ("values", "share", "tokens"))
            open_ = (share > 0) & (share < tokens)
            count = torch.minimum(share, tokens)
            found[tower] = 0.0
            if bool(open_.any()):
                table = self.counts(values[open_], tokens[open_])
                owed = sum(int((w - k).sum()) for w, k in zip(wanted, kept, strict=True))  # by the towers before
                found[tower], count[open_] = fit_threshold(values[open_], table, share[open_], owed)
            kept.append(count)
            wanted.append(share)
        total = torch.stack(kept).sum(0)
        return {
            f"{self.title}.threshold": found,
            f"{self.title}.calibrated": {
                "samples": len(total),
                "target": float(torch.stack(wanted).sum(0).double().mean()),
                "mean": float(total.double().mean()),
                "min": int(total.min()),
                "max": int(total.max()),
            },
        }


def fit_threshold(values: Tensor, counts: Tensor, shares: Tensor, owed: int = 0) -> tuple[float, Tensor]:
    """The threshold c for which rows keep what ``shares`` says on average.

    A row with m values above c keeps ``counts[row, m]`` tokens. The mean of what all rows keep is brought as near to
    the mean of the shares as the values allow; c lies halfway between two neighbouring values.

    Args:
        values: [S, M] float64, NaN where a row has fewer.
        counts: [S, M + 1] tokens kept.
        shares: [S] tokens wanted.
        owed: tokens wanted besides, of all rows together.

    Returns:
        c, and [S] the tokens that each row then keeps.
    """
    rows, width = values.shape
    values = values.nan_to_num(nan=-torch.inf)
    ranked = values.sort(dim=1, descending=True).values
    gain = (counts[:, 1:] - counts[:, :-1]).double()  # what the m-th value adds
    pooled, order = ranked.flatten().sort(descending=True, stable=True)
    real = pooled > -torch.inf
    pooled, order = pooled[real], order[real]
    total = counts[:, 0].double().sum() + torch.cat([gain.new_zeros(1), gain.flatten()[order].cumsum(0)])  # [P + 1]
    above = torch.cat([pooled[:1] + 1, (pooled[:-1] + pooled[1:]) / 2, pooled[-1:] - 1])
    apart = torch.ones_like(total, dtype=torch.bool)
    apart[1:-1] = pooled[:-1] > pooled[1:]
    error = (total - shares.double().sum() - owed).abs().masked_fill(~apart, torch.inf)
    c = float(above[int(error.argmin())])
    m = (values > c).sum(1, keepdim=True)
    return c, counts.gather(1, m)[:, 0]
