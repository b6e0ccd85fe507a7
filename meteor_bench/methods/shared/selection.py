"""What methods that choose tokens at the encoders' outputs share: where they are asked, several encoders, frames.

A method scores the tokens of one encoder (`EncodeScorer.score`) and chooses k of a sequence by that score
(`EncodeScorer.choose`); everything else is here.

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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import (
    Decision,
    EncodePoint,
    EncodeView,
    FusePoint,
    FuseView,
    Layout,
    Points,
    Stage,
    TowerAttention,
    View,
    keep_top,
)
from meteor_bench.core.settings import Range
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.shared.frames import Frames, frames_of, join_decision
from meteor_bench.methods.shared.helpers import frame_shares, shares, view_similarity
from meteor_bench.methods.shared.scorers import Scorer

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["AttentionScorer", "EncodeScorer", "resample", "scale"]


def resample(score: Tensor, layout: Layout, tower: str, grid: Grid, *, whole: bool = False) -> Tensor:
    """A tower's [B, G] scores -> [B, grid.n]; cells that were dropped (-inf) count as the lowest of their sample.

    Args:
        whole: whether it is known that none was.
    """
    source = layout.grids[tower]
    if not whole:
        score = score.maximum(score.masked_fill(score == -torch.inf, torch.inf).amin(1, keepdim=True))
    if tower in layout.cells:
        return score[:, layout.cells[tower]]
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
        low, high = rows.aminmax(dim=1, keepdim=True)
        out = (rows - low) / (high - low).clamp(min=1e-12)
    return out.reshape(score.shape)


@dataclass(frozen=True)
class EncodeScorer(Scorer):
    """Attributes are explained at the top of the file.

    Attributes:
        average: whose scores count on a shared fusion: all, sequence or lead.
    """

    average: Literal["all", "sequence", "lead"] = "all"

    stage: ClassVar[Stage] = "encode"
    statistic: ClassVar[TowerAttention | None] = None  # the attention wanted
    keys: ClassVar[bool] = False  # whether keys are wanted
    single_head: ClassVar[bool] = False
    projected: ClassVar[bool] = False  # choose among projected tokens
    scaling: ClassVar[Literal["range", "sum"]] = "range"  # how scores of several encoders are made comparable
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def score(self, view: EncodeView) -> Tensor:
        """[R, N] float32 score of an encoder's tokens, higher is kept; what special tokens get does not matter."""
        if view.attention is not None:
            return view.attention.float()
        distance = 1 - view_similarity(view)
        if not view.tokens.plain:
            distance = distance.masked_fill(~view.tokens.visual, 0.0)
        return distance / distance.sum(1, keepdim=True).clamp(min=1e-12)

    def choose(self, view: View, score: Tensor, share: Tensor) -> Decision:
        """Keep ``share`` [R] tokens of each row by their score."""
        return Decision(keep=keep_top(score, share, view.candidates), score=score, count=share)

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

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Choose, or only score where the fuse point chooses."""
        first = next(iter(views.values()))
        if self.projected or first.layout.fusion == "shared":
            return {
                name: Decision(keep=v.tokens.visual, score=self.scored(v, self.score(v))) for name, v in views.items()
            }
        share = frame_shares(first)
        return {name: self.choose(v, self.scored(v, self.score(v)), share[name]) for name, v in views.items()}

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Choose by the scores of the encode point, frame by frame."""
        decisions = {}
        for name, share in shares(views).items():
            part = self.cut(views[name], share)
            decisions[name] = join_decision(self.choose(part.view, part.score, part.share), part.per_sample)
        return decisions

    def cut(self, view: FuseView, share: Tensor) -> Frames:
        """A fuse view's frames with their scores."""
        return frames_of(view, self.combined(view), share)

    def combined(self, view: FuseView) -> Tensor:
        """[B, N] the score of each token of a fuse point, from all the encoders that it is made of."""
        grid, tokens = view.tokens.grid, view.tokens
        if view.tower in view.scores:
            score = view.scores[view.tower]
            return score if tokens.whole else score.gather(1, tokens.origin.clamp(min=0))
        scores = view.scores.items()
        each = torch.stack([resample(s, view.layout, name, grid, whole=name in view.whole) for name, s in scores])
        score = scale(each.flatten(0, 1), grid.t, self.scaling).view_as(each).mean(0)
        return score if tokens.whole else score.gather(1, tokens.origin.clamp(min=0))


@dataclass(frozen=True)
class AttentionScorer(EncodeScorer):
    """A selector that reads an encoder's attention.

    Attributes:
        block: the block it is read from, -1 for the last one that the model runs, -2 for the one before it.
    """

    block: Annotated[int, Range(most=-1)] = -1

    statistic: ClassVar[TowerAttention | None] = "cls"

    def read_at(self, depth: int) -> int | None:
        """Counted from the end."""
        return depth + self.block
