"""METEOR's three stages as hooks; what they are, and the deviations D1 to D10, stand in the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ConfigError, UnsupportedError
from meteor_bench.core.pruner import (
    Decision,
    DecodePoint,
    DecodeView,
    EncodeView,
    Fact,
    FusePoint,
    FuseView,
    Points,
    Pruner,
    Stage,
    View,
    keep_top,
)
from meteor_bench.core.settings import Layer, Range, Share
from meteor_bench.methods.meteor.calibration import adaptive_count, fit_lambda, limits, mean_ranks
from meteor_bench.methods.meteor.stages import (
    Attended,
    attended,
    effective_rank,
    fusion_scores,
    keep_in_windows,
    segment_ends,
    stage1_total,
)
from meteor_bench.methods.shared.helpers import earlier_target, round_half_up, split_total, view_similarity

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["Meteor"]

STAGES: tuple[Stage, ...] = ("encode", "fuse", "decode")
Part = Annotated[float, Range(above=0, most=1)]


@dataclass(frozen=True)
class Meteor(Pruner):
    """See the package for the stages and the deviations.

    Attributes:
        stages: any of encode, fuse, decode.
        projection: post, or pre: which kind of fusion the model shall have.
        budgets: rank, or uniform (in proportion to the towers' token counts).
        rank, energy: how a rank is measured.
        middle: the second point's criterion, shallow or deep.
        fusion: cooperative (as published), independent (each encoder by similarity to its own mean token) or random.
        allocation: global, or tower (stage 2's budget split in proportion to the counts stage 1 left).
        fuse_power: exponent of stage 2's count.
        stage3: adaptive, or fixed (K = the budget).
        depth: stage 3 prunes before the language-model layer at this share of its depth, rounded.
        layer: that layer by its index instead.
        heads: topk, or all.
        head_share: share of the heads in I, rounded up.
        rows: query rows of stage 3: text (all after the image) or last.
        clamp: least and most of stage 3's K, as multiples of the budget.
    """

    stages: Annotated[tuple[Stage, ...], Range(least=1)] = STAGES
    projection: Literal["post", "pre"] = "post"
    budgets: Literal["rank", "uniform"] = "rank"
    rank: Literal["energy", "entropy"] = "energy"
    energy: Part = 0.99
    middle: Literal["shallow", "deep"] = "shallow"
    fusion: Literal["cooperative", "independent", "random"] = "cooperative"
    allocation: Literal["global", "tower"] = "global"
    fuse_power: Part = 0.4
    stage3: Literal["adaptive", "fixed"] = "adaptive"
    depth: Annotated[float, Range(above=0, below=1)] = 0.6
    layer: Layer | None = None
    heads: Literal["topk", "all"] = "topk"
    head_share: Part = 0.5
    rows: Literal["text", "last"] = "text"
    clamp: tuple[Share, Annotated[float, Range(least=1)]] = (0.25, 4.0)

    fact: ClassVar[Fact] = Fact(
        year=2025,
        paper="arXiv 2507.20842",
        stages=STAGES,
        needs=("attention",),
        trained=True,
    )

    def __post_init__(self) -> None:
        # In the order in which they act, however they were named.
        object.__setattr__(self, "stages", tuple(stage for stage in STAGES if stage in self.stages))

    @property
    def prefers(self) -> Literal["independent", "shared"]:  # type: ignore[override]
        """One projector per encoder, unless the ablation is asked for (D9)."""
        return "independent" if self.projection == "post" else "shared"

    @property
    def exact(self) -> bool:
        """Adaptive stage 3 meets the budget on average only."""
        return not ("decode" in self.stages and self.stage3 == "adaptive")

    @property
    def draws(self) -> bool:
        """The ablation of stage 2 that chooses by chance."""
        return "fuse" in self.stages and self.fusion == "random"

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """Ranks for stage 1, lambda for stage 3."""
        ranks = "encode" in self.stages and self.budgets == "rank"
        wanted: dict[Stage, bool] = {"encode": ranks, "decode": not self.exact}
        return tuple(stage for stage, needed in wanted.items() if needed)

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """On a shared fusion stages 1 and 2 cannot be what was published."""
        if vlm.fusion.kind == "shared" and {"encode", "fuse"} & set(self.stages):
            return (f"training-free adaptation: the encoders of '{vlm.name}' share one grid",)
        return ()

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Segment ends of the towers, the fusion, and one language-model layer."""
        shared = vlm.fusion.kind == "shared"
        if self.projection == "pre" and not shared:
            raise UnsupportedError(
                f"meteor with projection=pre needs encoders that are joined before one projector; '{vlm.name}' has a "
                "projector for each"
            )
        if "fuse" in self.stages and len(vlm.towers) < 2:
            raise UnsupportedError(
                f"meteor's fuse stage compares encoders and '{vlm.name}' has one; take stages=encode,decode"
            )
        layer = max(1, int(self.depth * vlm.decoder.depth + 0.5)) if self.layer is None else self.layer
        if "decode" in self.stages and layer >= vlm.decoder.depth:
            raise UnsupportedError(
                f"meteor with layer={layer} needs a deeper language model than '{vlm.name}' "
                f"({vlm.decoder.depth} layers); take at most {vlm.decoder.depth - 1}"
            )
        if self.stages == ("encode",) and shared:
            raise UnsupportedError(
                f"meteor's encode stage alone removes no token from the language model of '{vlm.name}', whose encoders "
                "share one grid; add fuse or decode to stages"
            )
        return Points(
            encode=segment_ends(vlm, self.middle) if "encode" in self.stages else (),
            fuse=FusePoint(partial=shared) if "fuse" in self.stages else None,
            decode=(DecodePoint(before=layer, attention=self.rows),) if "decode" in self.stages else (),
        )

    # ------------------------------------------------------------ stage 1

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Drop the least informative tokens of each tower, budgets in proportion to its rank."""
        view = next(iter(views.values()))
        last = view.point == len(view.layers) - 1
        total = self._stage1_budget(view, views)
        caps = {name: v.tokens.counts() for name, v in views.items()}
        share = split_total(total, self._weights(views), caps)
        # A tower that has not run a block yet is waiting for its output.
        asked = {name: v for name, v in views.items() if last or v.layer > 0}
        least = int(not last or self._shared(view))  # an encoder on its way needs a token, a shared grid one of each
        return {name: self._drop(v, share[name].clamp(min=least)) for name, v in asked.items()}

    @staticmethod
    def _shared(view: View) -> bool:
        return view.layout.fusion == "shared"

    def _stage1_budget(self, view: EncodeView, views: Mapping[str, EncodeView]) -> Tensor:
        """[R] tokens that all towers together keep at this point (D1, D7)."""
        sizes = {name: grid.n for name, grid in view.layout.grids.items()}
        entering = sum(sizes.values())
        done = (view.point + 1) / len(view.layers)
        if self.stages == ("encode",):
            end = view.target.double()
        else:
            end = stage1_total(entering, view.reference, view.keep, self._stage2_share(view).ceil())
        left = entering ** (1 - done) * end**done
        present = sum(sizes[name] for name in views)  # on a shared fusion, the towers that are pruned
        return round_half_up(left * present / entering)

    def _stage2_share(self, view: View) -> Tensor:
        """[B] float64, what the stage after stage 1 keeps of the row (D1)."""
        power = self.fuse_power if "fuse" in self.stages and "decode" in self.stages else 1.0
        return torch.maximum(view.reference.double() * view.keep**power, view.target.double())

    def _weights(self, views: Mapping[str, EncodeView]) -> dict[str, float]:
        view = next(iter(views.values()))
        if self.budgets == "uniform":
            return {name: float(v.tokens.grid.n) for name, v in views.items()}
        ranks = view.facts.get("meteor.ranks")
        if ranks is None:
            raise ConfigError("meteor: the towers' ranks are not measured; calibrate first, or take budgets=uniform")
        return {name: float(ranks[view.point][name]) for name in views}

    def _drop(self, view: EncodeView, k: Tensor) -> Decision:
        if view.attention is not None:
            score = view.attention.float()
        else:
            score = -view_similarity(view)
        if view.windows is None:  # D8 otherwise
            return Decision(keep=keep_top(score, k, view.candidates), score=score, count=k)
        assert view.in_windows is not None
        keep, left = keep_in_windows(score, k, view.windows, view.candidates, view.in_windows)
        return Decision(keep=keep, score=score, count=left.sum(1), in_windows=left)

    # ------------------------------------------------------------ stage 2

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Keep the tokens that the other encoders say least about (D4, D7)."""
        view = next(iter(views.values()))
        k = view.target if "decode" not in self.stages else self._stage2_count(view)
        valid = {name: v.candidates for name, v in views.items()}
        score = fusion_scores(views, valid, self.fusion)
        if self.allocation == "tower" or self.fusion == "independent":
            counts = {name: v.tokens.counts() for name, v in views.items()}
            share = split_total(k, {name: c.double() for name, c in counts.items()}, counts)
            return {
                name: Decision(keep_top(score[name], share[name], valid[name]), score=score[name], count=share[name])
                for name in views
            }
        widths = [v.tokens.x.shape[1] for v in views.values()]
        allowed = None
        if any(mask is not None for mask in valid.values()):
            allowed = torch.cat([v.tokens.visual for v in views.values()], 1)
        keep = keep_top(torch.cat(list(score.values()), 1), k, allowed)  # [B, sum N_l]
        parts = torch.split(keep, widths, dim=1)
        if len(parts) == 1:
            left = k[None]
        else:  # how many of each encoder's, only the device knows: all asked at once
            left = torch.stack([part.sum(1) for part in parts]).cpu()
        named = zip(views, parts, left, strict=True)
        return {name: Decision(keep=part, score=score[name], count=count) for name, part, count in named}

    def _stage2_count(self, view: View) -> Tensor:
        return earlier_target(view, self.fuse_power)

    # ------------------------------------------------------------ stage 3

    def decode(self, view: DecodeView) -> Decision:
        """Keep what the heads with the most text→visual attention look at (D5, D6)."""
        score, mass = self._attended(view)
        k = view.target
        if self.stage3 == "adaptive":
            value = view.facts.get("meteor.lambda")
            if value is None:
                raise ConfigError("meteor: lambda is not measured; calibrate first, or take stage3=fixed")
            # The one thing that the host must be told; what is left then fits exactly.
            k = adaptive_count(float(value), mass.cpu(), *limits(view.target, view.tokens.counts(), self.clamp))
        return Decision(keep=keep_top(score, k, view.candidates), score=score, count=k)

    def _attended(self, view: DecodeView) -> Attended:
        return attended(view.attention, view.candidates, 1.0 if self.heads == "all" else self.head_share)

    # ------------------------------------------------------------ calibration

    def observe_decode(self, view: DecodeView) -> Mapping[str, Tensor]:
        """Attention mass and limits of K."""
        mass = self._attended(view).mass.cpu()
        low, high = limits(view.target, view.tokens.counts(), self.clamp)
        return {"mass": mass, "target": view.target, "low": low, "high": high}

    def observe_encode(self, view: EncodeView) -> Mapping[str, Tensor]:
        """Ranks."""
        rank = effective_rank(view.tokens.x, view.tokens.visual, self.rank, self.energy)
        return {f"rank.{view.point}.{view.tower}": rank}

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Mean ranks by point and tower; lambda with the counts it gives."""
        if stage == "encode":
            return {"meteor.ranks": mean_ranks(observed)}
        return fit_lambda(observed)
