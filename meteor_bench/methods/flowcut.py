"""FlowCut: Rethinking Redundancy via Information Flow (NeurIPS 2025, arXiv 2505.19536). Training-free, in the encoder.

After each block, with a the class token's attention (mean over heads), e the mean over heads of ``softmax(v_cls·v_j)``
over the sequence, and v a token's values averaged over heads, a patch scores ``(a_j / sum a + e_j / sum e)·|v_j|_1``; S
is the score in the first block and from then on half of S and half of the block's score. Let m be how many blocks are
still to come before the one before the last; where m is even, after the MLP, ``r = (n - T) / sqrt(m)·(1 - (H / ln
n)²)`` of the n patches are dropped, H the entropy of a / sum a, and at m = 0 all above T. The highest S stay.

Deviations:

1. In the authors' code the most that any image of a batch drops is dropped of all; here each image drops its own.
2. For tiles the authors keep T / 2 here and prune once more after the language model's first layer; here the budget is
   met in the encoder whatever the picture is.
3. An encoder without a class token: the mean attention received takes the place of a (recorded), the mean of the
   values that of v_cls. (The authors' code for Qwen2-VL has another rule: without e, down to 4·T, the rest in the
   language model.)
4. Encoders whose values cannot be read (convolutions, attention in windows) are pruned at their output, by what
   `methods.shared.selection` says. On a shared fusion the others keep the budget's share of their tokens to save
   compute, and S, dropped cells lowest, is the score that is averaged.
5. Frames: see `methods.shared.selection`. A frame keeps one token until the encoder's output even where it gets none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import Decision, EncodePoint, EncodeView, Fact, Points, TowerAttention, keep_top
from meteor_bench.methods.shared.helpers import flatness, frame_shares, round_half_up
from meteor_bench.methods.shared.selection import EncodeScorer

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["FlowCut"]


@dataclass(frozen=True)
class FlowCut(EncodeScorer):
    """Attributes: see `EncodeScorer`."""

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2505.19536", stages=("encode",), needs=("attention", "values"))
    title: ClassVar[str] = "flowcut"
    statistic: ClassVar[TowerAttention | None] = "cls"

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """After each block but the last, and at the outputs."""
        base = super().points(vlm, budget)
        after = base.encode[-1].after
        read = {name: depth for name, depth in after.items() if depth > 0 and vlm.towers[name].opens}
        if not read:
            raise UnsupportedError(f"flowcut reads an encoder's values; no encoder of '{vlm.name}' gives them")
        blocks = [[(name, block) for block in range(1, max(2, depth))] for name, depth in read.items()]
        steps = [
            EncodePoint(after=dict(filter(None, step)), attention="cls", values=True) for step in zip_longest(*blocks)
        ]
        ends = [EncodePoint(after=read)]
        if others := {name: depth for name, depth in after.items() if name not in read}:
            ends.append(replace(base.encode[-1], after=others))
        return replace(base, encode=(*steps, *ends))

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Prune inside; what is left to the outputs is chosen or only scored there."""
        inside = {name: view for name, view in views.items() if view.values is not None}
        if not inside:
            return super().encode(views)
        return {name: self._cut(view) for name, view in inside.items()}

    def score(self, view: EncodeView) -> Tensor:
        """S at an output."""
        kept = view.memo.get(_name(view))
        return super().score(view) if kept is None else _at(kept, view)

    def _cut(self, view: EncodeView) -> Decision:
        tokens, visual, values = view.tokens, view.tokens.visual, view.values
        assert values is not None and view.attention is not None
        attention = _shares(view.attention.float(), visual)
        score = (attention + _shares(_meaning(view, values.float()), visual)) * values.float().mean(2).abs().sum(2)
        before = view.memo.get(_name(view))
        if before is not None:
            score = (_at(before, view) + score) / 2
        to_come = max(1, view.layout.depths[view.tower] - 1) - view.layer
        wanted, counts = _wanted(view), tokens.counts()
        left = counts
        if to_come == 0:
            left = torch.minimum(wanted, counts)
        elif to_come % 2 == 0 and bool((counts > wanted).any()):
            flat = flatness(attention, view.candidates, counts)
            drop = round_half_up((counts - wanted).clamp(min=0) / to_come**0.5 * (1 - flat**2))
            left = torch.maximum(counts - drop, torch.minimum(wanted, counts))
        keep = visual if torch.equal(left, counts) else keep_top(score, left, view.candidates)
        cells = torch.zeros(len(score), tokens.grid.n + 1, device=score.device)  # one more for what has no cell
        cells.scatter_(1, torch.where(visual, tokens.origin, tokens.grid.n), score)
        return Decision(keep=keep, score=score, count=left, memo={_name(view): cells})


def _name(view: EncodeView) -> str:
    return f"flowcut.{view.tower}"


def _at(cells: Tensor, view: EncodeView) -> Tensor:
    """[R, N] of what [R, G + 1] cells have."""
    return cells.gather(1, torch.where(view.tokens.visual, view.tokens.origin, view.tokens.grid.n))


def _shares(mass: Tensor, visual: Tensor) -> Tensor:
    """[R, N] of the patches' sum, nothing for what is no patch."""
    mass = mass.masked_fill(~visual, 0.0)
    return mass / mass.sum(1, keepdim=True).clamp(min=1e-12)


def _meaning(view: EncodeView, values: Tensor) -> Tensor:
    """[R, N] mean over heads of the softmax, over the sequence, of values [R, N, H, d] times the class token's."""
    tokens = view.tokens
    if view.has_cls:
        first = tokens.special.to(torch.uint8).argmax(1)
        query = values[torch.arange(len(values), device=values.device), first]  # [R, H, d]
    else:
        query = (values * tokens.visual[..., None, None]).sum(1) / tokens.visual.sum(1).clamp(min=1)[:, None, None]
    logits = torch.einsum("rhd,rnhd->rhn", query, values)
    if tokens.padded:
        logits = logits.masked_fill(~tokens.valid[:, None], -torch.inf)
    return logits.softmax(2).mean(1)


def _wanted(view: EncodeView) -> Tensor:
    """[R] on the CPU, tokens that are to leave the encoder; at least one, so that attention has something to see."""
    own = torch.full_like(view.target, view.layout.grids[view.tower].n)
    if view.keep >= 1:
        return own
    if view.layout.fusion == "independent":
        return frame_shares(view)[view.tower].clamp(min=1)
    part = round_half_up(view.target.double() * own / view.reference)
    return torch.minimum(part, own).clamp(min=1)
