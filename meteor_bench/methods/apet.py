"""ApET: Approximation-Error Guided Token Compression for Efficient VLMs (CVPR 2026, arXiv 2602.19870), section 3.

Needs no attention. `basis` tokens that lie far apart span what can be said with few; the tokens that a linear
combination of them (ridge 1e-5) approximates worst stay. Of the places that stay, the `basis` best approximated ones
are given to the basis tokens themselves; every token that goes is averaged into the staying one that is most like it
(cosine), the basis tokens' places excepted. Once after the encoder, on features before the projector, which leaves 3·T
tokens, and once more on the hidden states in the middle of the language model (before layer 16 of 32), which leaves T.
As in the authors' code, the first basis token found stands in the first of those places in the sequence after the
encoder, and in the worst approximated of them in the language model.

Deviations:

1. The published pairs (96, 32) and (288, 96) are 3·T and T; `first` is that factor, and N the most. The layer is the
   one nearest to half of the language model's depth.
2. The search for basis tokens (farthest point, Euclidean) starts at the token farthest from the mean; theirs starts at
   a random one. With fewer places than basis tokens, the first of them are taken, and nothing is averaged.
3. On a shared fusion tokens are the concatenated features of all encoders on the common grid; on an independent one
   each encoder is pruned on its own, the budget split in proportion to the token counts. A clip's frames are images of
   their own in the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import places
from meteor_bench.core.pick import kept_places
from meteor_bench.core.pruner import (
    Decision,
    DecodePoint,
    DecodeView,
    EncodePoint,
    EncodeView,
    Fact,
    FusePoint,
    FuseView,
    Points,
    Pruner,
    View,
    keep_top,
)
from meteor_bench.core.rows import ranks
from meteor_bench.core.settings import Range
from meteor_bench.methods.shared.frames import frames_of, join_decision
from meteor_bench.methods.shared.helpers import (
    depth_points,
    frame_shares,
    more_than_target,
    nearest_kept,
    shares,
    widened,
)
from meteor_bench.methods.shared.picks import nearer

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["ApET", "approximation_error", "farthest_points"]

RIDGE = 1e-5
MIDDLE = Fraction(1, 2)


def farthest_points(x: Tensor, visual: Tensor | None, count: int) -> Tensor:
    """[B, count] long, tokens far from each other; the first is the farthest from the mean. Ties to the lower index.

    Args:
        x: [B, N, D].
        visual: [B, N] bool, None: all; a row with fewer of them repeats the last.
    """
    x = x.double()
    if visual is None:
        mean = x.sum(1, keepdim=True) / x.shape[1]
    else:
        mean = x.masked_fill(~visual[..., None], 0.0).sum(1, keepdim=True) / visual.sum(1).clamp(min=1)[:, None, None]
    gap = (x - mean).square().sum(2)
    away = torch.full_like(gap, torch.inf)
    if visual is not None:
        gap, away = (values.masked_fill(~visual, -torch.inf) for values in (gap, away))
    found = [gap.argmax(1, keepdim=True)]
    while len(found) < count:
        away = nearer(x, found[-1], away)
        found.append(away.argmax(1, keepdim=True))
    return torch.cat(found[:count], 1)


def approximation_error(x: Tensor, basis: Tensor) -> Tensor:
    """[B, N] float64, the distance of each token from its ridge approximation by the basis.

    Args:
        x: [B, N, D].
        basis: [B, K] long, indices of the basis tokens.
    """
    x = x.double()
    b = take_rows(x, basis)  # [B, K, D]
    gram = b @ b.transpose(1, 2)
    gram.diagonal(dim1=1, dim2=2).add_(RIDGE)
    # Unchecked: the ridge makes it regular, and a check would make the host wait for a GPU.
    weight = torch.linalg.solve_ex(gram, b @ x.transpose(1, 2)).result  # [B, K, N]
    error: Tensor = (x - weight.transpose(1, 2) @ b).norm(dim=2)
    return error


@dataclass(frozen=True)
class ApET(Pruner):
    """Attributes are explained at the top of the file.

    Attributes:
        basis: how many basis tokens.
        first: tokens that the language model gets, as a multiple of the budget.
    """

    basis: Annotated[int, Range(least=1)] = 10
    first: Annotated[float, Range(least=1)] = 3.0

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2602.19870", stages=("encode", "decode"))
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before the projector, and in the middle of the language model."""
        (layer,) = depth_points("apet", vlm, (MIDDLE,))
        decode = (DecodePoint(before=layer),)
        if vlm.fusion.kind == "shared":
            return Points(fuse=FusePoint(features=True), decode=decode)
        end = EncodePoint(after={name: tower.depth for name, tower in vlm.towers.items()})
        return Points(encode=(end,), decode=decode)

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Each encoder's share of what the language model gets."""
        first = next(iter(views.values()))
        share = frame_shares(first.changed(target=more_than_target(first, self.first)))
        return {name: self._reduce(view, share[name]) for name, view in views.items()}

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """The common grid, frame by frame."""
        views = widened(views, self.first)
        decisions = {}
        for name, share in shares(views).items():
            part = frames_of(views[name], torch.zeros_like(views[name].tokens.size), share)
            decisions[name] = join_decision(self._reduce(part.view, part.share), part.per_sample)
        return decisions

    def decode(self, view: DecodeView) -> Decision:
        """The rest of the way."""
        return self._reduce(view, view.target, by_error=True)

    def _reduce(self, view: View, share: Tensor, *, by_error: bool = False) -> Decision:
        """Keep what is approximated worst, ``share`` [B] tokens, with the basis among them.

        Args:
            by_error: the places of the basis are given from the worst approximated one on, not from the first one on.
        """
        x, visual, count = view.tokens.x, view.tokens.visual, view.tokens.counts()
        share = torch.minimum(share, count)
        if x.shape[1] == 0 or bool((share == count).all()):
            return Decision(keep=visual)
        n, x64 = x.shape[1], x.double()
        basis = farthest_points(x64, view.candidates, min(self.basis, n))
        score = approximation_error(x64, basis)
        score = score if view.tokens.plain else score.masked_fill(~visual, -torch.inf)
        keep = keep_top(score, share, view.candidates)
        wanted = torch.minimum(share, torch.full_like(share, basis.shape[1])).masked_fill(share == count, 0)
        given = keep_top(-score, wanted, keep)  # places that the basis tokens get
        into = nearest_kept(x, keep ^ given, view.candidates).masked_fill_(given, -1)
        width = int(share.max())
        ragged = not bool((share == width).all())
        row = kept_places(keep, width, ragged=ragged)  # [B, K]
        # Which basis token a place is given; behind the last of them, one of no use.
        place = ranks(score.masked_fill(~given, -torch.inf)) if by_error else given.cumsum(1) - given.long()
        source = basis.gather(1, place.gather(1, row).clamp(max=basis.shape[1] - 1))
        itself = source[..., None] == places(n, x.device)  # [B, K, N]
        parts = torch.where(given.gather(1, row)[..., None], itself, into[:, None] == row[..., None])
        many = parts.sum(2, keepdim=True)
        mix = parts / (many.clamp(min=1) if ragged else many)  # shorter rows have places of nobody
        return Decision(keep=keep, merge_into=into, mix=mix, score=score.float(), count=share)
