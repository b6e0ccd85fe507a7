"""CoMP's outer loop on `pocket`: stage after stage one mode is pruned a little further, until enough FLOPs are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.comp.importance import received
from scripts.comp.masked import Masked
from scripts.comp.measure import unit_scores
from scripts.comp.sites import MODES, TOKENS, VISUAL, Bill, Site
from scripts.comp.strategy import Strategy
from scripts.pocket.batches import Curriculum, Packed, choose_questions, draw_samples, pack
from scripts.pocket.joint import JointModel
from scripts.pocket.loop import log
from scripts.pocket.phase_through import Pick, through_logits
from scripts.pocket.sample import Sample
from scripts.pocket.scores import benchmark_scores, scored
from scripts.pocket.symbolic import answer_logits
from scripts.pocket.world import split_rng

__all__ = ["Search", "State", "Task", "raised", "start", "strongest"]

LEAST_TOKENS = 8
PARTS = 5  # stages that a mode lasts for at least


@dataclass
class State:
    """What is left: units of each place [units] bool, and visual tokens behind the point."""

    keep: dict[str, Tensor]
    tokens: int = VISUAL


def start(places: list[Site]) -> State:
    """Everything."""
    return State({site.name: torch.ones(site.units, dtype=torch.bool) for site in places})


def strongest(attention: Tensor, rows: Tensor, keep: int, heads: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `keep` tokens of each question with the highest S^t; arguments and result as of `phase_through.choose`."""
    batch, count, length = rows.shape
    each = attention[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1)
    score = received(each, heads, rows.reshape(-1, length)).unflatten(0, (batch, count))
    place = score.topk(min(keep, score.shape[2]), dim=2).indices.sort(dim=2).values
    return place, torch.ones_like(place, dtype=torch.bool)


def raised(state: State, mode: str, share: float, bill: Bill, scores: Callable[[], dict[str, Tensor]]) -> State | None:
    """The state after a stage of a mode, or None where the mode has nothing left.

    A parameter mode's threshold rises until the units below it make up the share of the unpruned FLOPs; scores are
    those of a place divided by the mean of what is left there, so that one threshold holds for all places of a mode.
    The mode of tokens drops as many as make up the share. No stage takes more than a fifth of what a mode has.
    """
    most = bill.of(mode) / PARTS
    wanted = bill.flops(state.keep, state.tokens) - min(share * bill.whole, most)
    if mode == TOKENS:
        for tokens in range(state.tokens - 1, LEAST_TOKENS - 1, -1):
            if bill.flops(state.keep, tokens) <= wanted:
                return State(state.keep, tokens)
        return State(state.keep, LEAST_TOKENS) if state.tokens > LEAST_TOKENS else None
    found = scores()
    queue: list[tuple[float, str, int]] = []
    for site in bill.places:
        stays = state.keep[site.name]
        if site.mode == mode:
            normed = found[site.name] / found[site.name][stays].mean().clamp(min=1e-12)
            queue += [(float(normed[unit]), site.name, int(unit)) for unit in stays.nonzero()[:, 0]]
    places = {site.name: site for site in bill.places}
    keep, now = {name: stays.clone() for name, stays in state.keep.items()}, bill.flops(state.keep, state.tokens)
    for _, name, unit in sorted(queue):
        if now <= wanted:
            break
        site = places[name]
        if int(keep[name].sum()) > site.least:
            keep[name][unit] = False
            now -= site.unit_flops(bill.length(site, state.tokens))
    gone = now < bill.flops(state.keep, state.tokens)
    return State(keep, state.tokens) if gone else None


@dataclass
class Task:
    """A model, its questions, and where its tokens are dropped."""

    model: JointModel
    masked: Masked
    tokenizer: PocketTokenizer
    before: int
    fixed: list[list[Sample]]
    cit: bool = True

    def pick(self) -> Pick:
        """The choice of tokens under the masks as they are."""
        heads = self.masked.heads(f"decoder.model.layers.{self.before - 1}.self_attn") if self.cit else None
        return partial(strongest, heads=heads)

    def logits(self, samples: list[Sample], packed: Packed, tokens: int) -> Tensor:
        """At the positions with a target, with so many tokens behind the point."""
        visual = self.model.look(samples)
        if tokens >= VISUAL:
            return answer_logits(self.model.vlm.decoder, visual.tokens, visual.index, self.model.total, packed)
        return through_logits(self.model, visual, packed, tokens, layer=self.before, pick=self.pick())

    def accuracy(self, tokens: int) -> float:
        """Mean of the benchmarks on the fixed questions, 0 to 1."""
        found = scored(self.tokenizer, self.fixed, lambda s, p: self.logits(s, p, tokens))
        return float(np.mean(list(benchmark_scores(found).values())))


@dataclass
class Search:
    """The loop.

    Attributes:
        share: of the unpruned FLOPs that a stage removes.
        target: that are to be removed in all.
        tune: one step of training with so many tokens behind the point; None: stages only prune.
        steps: of them in a stage.
        pictures: that units are scored on in each stage.
    """

    task: Task
    bill: Bill
    strategy: Strategy
    state: State
    share: float
    target: float
    tune: Callable[[int], None] | None = None
    steps: int = 0
    pictures: int = 16
    cip: bool = True
    accuracy: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def scores(self) -> dict[str, Tensor]:
        """Of all units, on fresh pictures of the training split."""
        rng, curriculum = split_rng("train", 9_000_000 + self.strategy.stage), Curriculum()
        samples = draw_samples(rng, self.pictures, curriculum, draw=True, max_objects=9)
        batches = []
        for part in ([s for s in samples if not s.is_clip], [s for s in samples if s.is_clip]):
            if part:
                packed = pack([choose_questions(s, rng, curriculum, 4) for s in part], self.task.tokenizer)
                batches.append((part, packed))
        return unit_scores(self.task.model, self.task.masked, batches, cip=self.cip, cit=self.task.cit)

    @property
    def removed(self) -> float:
        """Share of the unpruned FLOPs that is gone."""
        return self.bill.removed(self.state.keep, self.state.tokens)

    def run(self, note: Callable[[], None] = lambda: None) -> None:
        """Stages until the target is reached or nothing is left to prune; `note` is called after each."""
        exhausted: set[str] = set()
        if self.accuracy < 0:
            self.accuracy = self.task.accuracy(self.state.tokens)
            log.info("comp unpruned: accuracy %.3f", self.accuracy)
        while self.removed < self.target - 1e-3:
            open_ = [mode for mode in MODES if mode not in exhausted]
            if not open_:
                return
            mode = self.strategy.choose(open_)
            share = min(self.share, self.target - self.removed)
            found = raised(self.state, mode, share, self.bill, self.scores)
            if found is None:
                exhausted.add(mode)
                continue
            self.stage(mode, found)
            note()

    def stage(self, mode: str, found: State) -> None:
        """Fade out what goes while training, then measure what it cost."""
        before, old, was = self.removed, self.state, self.accuracy
        for step in range(self.steps if self.tune else 0):
            done = (step + 1) / self.steps
            self.task.masked.fade(old.keep, found.keep, done)
            assert self.tune is not None
            self.tune(round(old.tokens + (found.tokens - old.tokens) * done))
        self.task.masked.set(found.keep)
        self.state = found
        self.accuracy = self.task.accuracy(found.tokens)
        cost = (was - self.accuracy) / (self.removed - before)
        self.strategy.update(mode, cost)
        line = {"mode": mode, "removed": round(self.removed, 4), "accuracy": round(self.accuracy, 4)}
        self.history.append({**line, "cost": round(cost, 4), "tokens": found.tokens})
        log.info("comp stage %s %s costs %s", self.strategy.stage, self.history[-1], self.strategy.costs)
