"""A method and what could go wrong with it, each as somebody's commit might do it. Tests register them by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meteor_bench.core.pruner import Decision, View
from meteor_bench.methods.divprune import DivPrune


@dataclass(frozen=True)
class Good(DivPrune):
    """As it should be."""


def _changed(
    decisions: Mapping[str, Decision], views: Mapping[str, View], change: Callable[[Decision, Tensor], Decision]
) -> dict[str, Decision]:
    return {name: change(decision, views[name].tokens.visual) for name, decision in decisions.items()}


@dataclass(frozen=True)
class OneTokenTooMany(DivPrune):
    """Keeps the first of those that it should drop, too."""

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        def change(decision: Decision, visual: Tensor) -> Decision:
            dropped = visual & ~decision.keep
            first = dropped & (dropped.cumsum(1) == 1)
            return replace(decision, keep=decision.keep | first, count=None)

        return _changed(super().fuse(views), views, change)


@dataclass(frozen=True)
class SwappedOrder(DivPrune):
    """Right tokens, but every two neighbours swap places."""

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        def change(decision: Decision, visual: Tensor) -> Decision:
            place = decision.keep.cumsum(1) - 1
            return replace(decision, order=(place ^ 1).clamp(min=0))

        return _changed(super().fuse(views), views, change)


@dataclass(frozen=True)
class Worse(DivPrune):
    """On a quarter of the pictures keeps a block instead of its choice."""

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        def change(decision: Decision, visual: Tensor) -> Decision:
            block = visual & (visual.cumsum(1) <= decision.keep.sum(1, keepdim=True))
            seeds = [g.initial_seed() for view in views.values() for g in view.generators]
            unlucky = torch.tensor([seed % 4 == 0 for seed in seeds[: len(visual)]])
            return replace(decision, keep=torch.where(unlucky[:, None], block, decision.keep), count=None)

        return _changed(super().fuse(views), views, change)


@dataclass(frozen=True)
class TwiceAsSlow(DivPrune):
    """Dawdles until selection has taken twice its time: 1.4 times the decision, which gathering then follows."""

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        start = time.thread_time()
        decisions = super().fuse(views)
        end = start + 2.4 * (time.thread_time() - start)
        while time.thread_time() < end:
            pass
        return decisions
