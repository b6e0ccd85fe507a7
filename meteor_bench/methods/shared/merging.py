"""What methods that merge tokens inside the encoders share: schedules, shares, several encoders.

A merge layer is the attention of a block with its residual, a merge, and the block's MLP. A method says how tokens are
paired (`InsideMerger.pair`); `MergeLayers` says at which blocks, everything else is here.

- Of N tokens N - T are removed, spread over the blocks of a schedule. A layer merges at most half of its tokens, so
  some targets are out of reach: `relax` (default) then adds merge layers, the earliest unused ones first, and if all
  blocks are not enough, merge rounds at the encoder's output; `relax=False` raises an error that names the smallest
  target.
- Several encoders, independent fusion: each encoder's share of the budget is proportional to its token count. A
  convolutional encoder is left whole inside and merged at its output in rounds of at most half, paired by its features
  alone; a share of nothing drops them all.
- Several encoders, shared fusion: each sequence encoder merges inside to save compute, to the same share of its
  tokens. The groups of the lead (`lead`, default: the sequence encoder with the most tokens) decide: all encoders'
  features are averaged within a group before the projector, so that the language model gets exactly T tokens. A lead
  whose grid is finer than the common one keeps its share T/N of its own tokens, not T; its groups are carried over to
  the common grid by the nearest cell and merged on in rounds. Where groups vanish on the way, the cells least like
  their group become tokens of their own again. With one encoder this is the published method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import Decision, EncodeView, FuseView
from meteor_bench.core.seats import Seats
from meteor_bench.methods.shared.groups import absorb, leaders, on_grid, split_groups
from meteor_bench.methods.shared.merge_layers import MergeLayers

__all__ = ["InsideMerger", "Paired"]


class Paired(NamedTuple):
    """One merge of each row.

    Attributes:
        into: [R, N] long, the token that each one ends in: itself, or its partner; -1 for what takes no part.
        order: [R, N] long, sort keys of what is left (`Decision.order`); None: it stays where it is.
        memo: what the decision is to remember (`Decision.memo`).
        mix: what becomes of those that stay (`Decision.mix`); None: the mean of what ends in them.
        exact: whether exactly r were merged for sure, so that nobody needs to count.
    """

    into: Tensor
    order: Tensor | None = None
    memo: Mapping[str, Tensor] = MappingProxyType({})
    mix: Tensor | None = None
    exact: bool = False


@dataclass(frozen=True)
class InsideMerger(MergeLayers, ABC):
    """A method that merges inside the encoders, see the top of the file; it says how tokens are paired."""

    @abstractmethod
    def pair(
        self, view: EncodeView | None, x: Tensor, visual: Tensor, count: Tensor, r: Tensor, final: Tensor | None
    ) -> Paired:
        """Merge r tokens of each row once.

        Args:
            view: the point inside a block, whose attention and keys are those of ``x``; None at an output.
            x: [R, N, D] features.
            visual: [R, N] bool, tokens that take part.
            count: [R] long on the CPU, how many they are.
            r: [R] long on the CPU, at most half of them.
            final: [R] bool on the CPU, rows whose last merge layer this is; None at an output, where orders are not
                looked at.
        """

    def seats(self, view: EncodeView, count: Tensor, r: int, final: Tensor) -> Seats | None:
        """The same inside a block, of rows that merge r, at least one, each, and whose special tokens stand first.

        Args:
            view: its tokens know how many `Tokens.heads` they have.

        Returns:
            None: `pair` is to be asked.
        """
        return None

    def leaves(self, view: EncodeView) -> Tensor | None:
        """[R, N] sort keys in which tokens leave their encoder; None: as they stand."""
        return None

    # ------------------------------------------------------------ inside the towers

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Merge each tower down to what its plan says for this layer."""
        share = self._shares(next(iter(views.values())))
        decisions = {}
        for name, view in views.items():
            if view.inside:
                wanted, final = self._wanted(view, share[name])
                if bool((wanted >= 0).any()):
                    decisions[name] = self._merge_inside(view, wanted, final)
            elif self._rounds_allowed(view):
                decisions[name] = self._merge_rounds(view, share[name])
            elif (order := self.leaves(view)) is not None:
                decisions[name] = Decision(keep=view.tokens.visual, order=order)
        return decisions

    def _rounds_allowed(self, view: EncodeView) -> bool:
        """Rounds at the output: for opaque towers, and with `relax` for a tower whose count matters."""
        return view.layout.depths[view.tower] == 0 or (self.relax and self._counts(view))

    def _merge_inside(self, view: EncodeView, wanted: Tensor, final: Tensor) -> Decision:
        count = view.tokens.counts()
        r = torch.where(wanted < 0, torch.zeros_like(count), torch.minimum(count - wanted, count // 2)).clamp(min=0)
        each = set(r.tolist())
        if view.tokens.heads is not None and len(each) == 1 and max(each) > 0 and self.merge == "size":
            if (seats := self.seats(view, count, each.pop(), final)) is not None:
                return Decision.seated(seats)
        into, order, memo, mix, exact = self.pair(view, view.tokens.x, view.tokens.visual, count, r, final)
        own = places(into.shape[1], into.device)
        weight = torch.ones_like(view.tokens.size) if self.merge == "mean" else None
        left = count - r if exact else None
        keep = into == own
        return Decision(
            keep=keep, merge_into=into, total=True, weight=weight, order=order, count=left, memo=memo, mix=mix
        )

    # ------------------------------------------------------------ at the outputs

    def _merge_rounds(self, view: EncodeView, target: Tensor) -> Decision:
        """Rounds of at most half, by the features alone, until the target is met."""
        alive = view.tokens.visual
        own = places(alive.shape[1], alive.device).expand_as(alive)
        weight = torch.ones_like(view.tokens.size) if self.merge == "mean" else view.tokens.size
        count = view.tokens.counts()
        into = own if view.tokens.plain else torch.where(alive, own, -torch.ones_like(own))
        into, left = self._merge_on(view.tokens.x, into, weight, count, target.clamp(min=1))
        none = target < 1
        total = not bool(none.any())
        if not total:
            into, left = into.masked_fill(on_device(none, into.device)[:, None], -1), left.masked_fill(none, 0)
        elif torch.equal(left, count) and self.leaves(view) is None:
            return Decision(keep=view.tokens.visual)
        mean = weight if self.merge == "mean" else None
        return Decision(
            keep=into == own, merge_into=into, total=total, weight=mean, order=self.leaves(view), count=left
        )

    def _merge_on(
        self, x: Tensor, into: Tensor, weight: Tensor, count: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[R, N] the partition ``into`` merged on until each row has at most ``target`` groups, and how many it has.

        Args:
            count: [R] on the CPU, as the target is, the groups before. A round at an output merges what it is to.
        """
        own = places(into.shape[1], into.device)
        alive = into == own
        while bool((count > target).any()):
            r = torch.minimum(count - target, count // 2).clamp(min=0)
            step = self.pair(None, absorb(x, weight, into), alive, count, r, None).into
            into = torch.where(into >= 0, step.gather(1, into.clamp(min=0)), into)
            alive, count = alive & (step == own), count - r
        return into, count

    # ------------------------------------------------------------ shared fusion

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Average all encoders' features within the lead's groups."""
        decisions = {}
        for name, view in views.items():
            lead = self._lead(view.layout)
            group = on_grid(view.groups[lead], view.layout, lead, view.tokens.grid)
            into = leaders(group, view.layout.grids[lead].n)
            own = places(into.shape[1], into.device)
            if group is view.groups[lead]:  # on the common grid already: a group for each of its tokens
                count = view.left[lead]
            else:  # how many groups the way there left, nobody knows before
                count = (into == own).sum(1).cpu()
            into, count = self._merge_on(view.tokens.x, into, torch.ones_like(view.tokens.size), count, view.target)
            into = split_groups(view.tokens.x, into, view.target - count)
            left = torch.maximum(count, view.target)
            decisions[name] = Decision(keep=into == own, merge_into=into, total=True, count=left)
        return decisions
