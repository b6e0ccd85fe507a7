"""EvoPrune: Early-Stage Visual Token Pruning (arXiv 2603.03681), section 3. Training-free, inside the encoder.

In a merge layer: attention with its residual, merge r tokens, MLP. Even tokens a, odd tokens b; each i in a picks its
best j in b by ``Score = Sim·w_div·w_attn`` and the r best edges merge a into b.

- Sim: cosine, in [0, 1].
- ``d_i = 1 - (1/K)·sum over the K nearest k of exp(-|v_i - v_k|²/tau²)``, ``w_div = exp(-lambda_d·(d_i + d_j))``:
  isolated tokens are spared.
- ``s_i``: the attention a token receives; the ``N_protect = min(CTR·T_l, T_l - 2r)`` highest are protected: an edge
  that touches one is excluded.
- Schedule: of N tokens N - T are removed, spread evenly over every other layer ("skip").

Deviations. No code is public; these are our choices where the paper is silent, not the authors':

- v: hidden states after attention, L2-normalised; K = 5; lambda_d = 1; tau = the median distance to the K nearest, per
  image; merged tokens are size-weighted means; the class token takes no part; even and odd count the visual tokens of
  the current sequence; protection is decided anew at each merge layer.
- s_i is the mean over heads and queries of the attention received. (As printed it averages a softmax row, a constant.)
- Sim is clamped at 0 and edges are excluded after the product, so that no product decides about an excluded edge.
- N_protect is at least 0. Where too few legal sources are left, the rest is carried to the next merge layer; in the
  last one, protected tokens are merged as a last resort, so that the budget is exact.
- Merge layers of "skip" are blocks 0, 2, 4, … (`start`); "mean": all; "first", "last": that half of the blocks;
  "increasing", "decreasing": all, r growing or shrinking linearly.
- A layer merges at most half of its tokens, so some targets are out of reach: on CLIP-L with 12 merge layers 64 of 576
  tokens can be reached and 32 cannot. `relax` (default) then adds merge layers, the earliest unused ones first, and
  if all blocks are not enough, merge rounds at the encoder's output; `relax=False` raises an error that names the
  smallest target.
- Several encoders, independent fusion: each encoder's share of the budget is proportional to its token count. A
  convolutional encoder is left whole inside and merged at its output in rounds of at most half, by the same score
  without the attention term; a share of nothing drops them all.
- Several encoders, shared fusion: each sequence encoder merges inside to save compute, to the same share of its
  tokens. The groups of the lead (`lead`, default: the sequence encoder with the most tokens) decide: all encoders'
  features are averaged within a group before the projector, so that the language model gets exactly T tokens. Where
  the lead's grid is finer than the common one and groups vanish, the cells least like their group become tokens of
  their own again. With one encoder this is the published method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import (
    Decision,
    EncodePoint,
    Fact,
    FusePoint,
    Layout,
    Points,
    Pruner,
    View,
    keep_top,
)
from meteor_bench.core.tokens import Grid
from meteor_bench.errors import BudgetError, ConfigError, UnsupportedError
from meteor_bench.methods._common import absorb, check_choice, round_half_up, split_total, unit

if TYPE_CHECKING:
    from meteor_bench.models.base import VLM

__all__ = ["EvoPrune", "Plan", "plan", "smallest"]

SCHEDULES = ("skip", "mean", "first", "last", "increasing", "decreasing")


class _Native(NamedTuple):
    """A tower on an image of the model's own size: its tokens, its target, whether its tokens are what counts."""

    n: int
    target: int
    counts: bool


class Plan(NamedTuple):
    """What a tower does to reach a target.

    Attributes:
        counts: token count wanted after each layer of the tower's list; -1 where the layer merges nothing.
        last: index of the last layer that merges, -1 if none does.
        reached: tokens left after it if no edge is short.
    """

    counts: tuple[int, ...]
    last: int
    reached: int


@dataclass(frozen=True)
class EvoPrune(Pruner):
    """Attributes are explained at the top of the file.

    Attributes:
        schedule: skip, mean, first, last, increasing or decreasing.
        start: first merge block of "skip", 0 or 1.
        relax: add merge layers where the target needs them.
        attention: protect tokens that receive attention.
        diversity: spare isolated tokens.
        protect: CTR, the share of tokens that is protected.
        neighbours: K.
        strength: lambda_d.
        temperature: tau; 0 takes the median neighbour distance of the image.
        merge: size (weighted by the number of patches a token stands for) or mean.
        lead: tower whose groups decide on a shared fusion; empty for the sequence tower with the most tokens.
    """

    schedule: Literal["skip", "mean", "first", "last", "increasing", "decreasing"] = "skip"
    start: int = 0
    relax: bool = True
    attention: bool = True
    diversity: bool = True
    protect: float = 0.25
    neighbours: int = 5
    strength: float = 1.0
    temperature: float = 0.0
    merge: Literal["size", "mean"] = "size"
    lead: str = ""

    fact: ClassVar[Fact] = Fact(year=2026, paper="arXiv 2603.03681", stages=("encode",), needs=("attention",))
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def __post_init__(self) -> None:
        check_choice("evoprune", "schedule", self.schedule, SCHEDULES)
        check_choice("evoprune", "start", self.start, (0, 1))
        check_choice("evoprune", "merge", self.merge, ("size", "mean"))
        if not 0 <= self.protect <= 1:
            raise ConfigError(f"evoprune: protect={self.protect} is outside [0, 1]")
        if self.neighbours < 1 or self.temperature < 0:
            raise ConfigError("evoprune: neighbours must be at least 1 and temperature at least 0")

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Inside the merge layers, and at the towers' outputs."""
        shared = vlm.fusion.kind == "shared"
        depths = {name: tower.depth for name, tower in vlm.towers.items() if tower.depth > 0}
        if not depths:
            raise UnsupportedError(f"evoprune merges inside sequence encoders; '{vlm.name}' has none")
        if self.lead and self.lead not in depths:
            raise UnsupportedError(
                f"evoprune: lead='{self.lead}' is no sequence encoder of '{vlm.name}'; it has {', '.join(depths)}"
            )
        layers = {name: self._layers(name, depth, *self._native(vlm, budget, name)) for name, depth in depths.items()}
        steps = [
            EncodePoint(
                after={name: own[i] for name, own in layers.items() if i < len(own)},
                inside=True,
                attention="received" if self.attention else None,
            )
            for i in range(max(map(len, layers.values())))
        ]
        ends = depths if shared else {name: tower.depth for name, tower in vlm.towers.items()}
        return Points(encode=(*steps, EncodePoint(after=ends)), fuse=FusePoint(features=True) if shared else None)

    def _blocks(self, depth: int) -> list[int]:
        """Merge blocks of the schedule, as block counts (block 0 is 1)."""
        blocks = {
            "skip": range(self.start, depth, 2),
            "first": range((depth + 1) // 2),
            "last": range(depth // 2, depth),
        }.get(self.schedule, range(depth))
        return [b + 1 for b in blocks] or [depth]

    def _native(self, vlm: VLM, budget: TokenBudget, name: str) -> _Native:
        """What the tower starts from and is to reach on an image of the model's own size."""
        grids = {tower: module.grid(*vlm.native) for tower, module in vlm.towers.items()}
        layout = Layout(vlm.fusion.kind, grids, {tower: module.depth for tower, module in vlm.towers.items()})
        n, target = grids[name].n, budget.tokens(vlm.reference(vlm.grid(1, *vlm.native)))
        if layout.fusion == "independent":
            return _Native(n, target * n // sum(grid.n for grid in grids.values()), True)
        lead = self._lead(layout)
        return _Native(n, max(1, min(target, grids[lead].n) * n // grids[lead].n), name == lead)

    def _layers(self, tower: str, depth: int, n: int, target: int, counts: bool) -> list[int]:
        """Blocks to stop at; all of them when the schedule's own do not reach the target."""
        own = self._blocks(depth)
        if plan(self.schedule, tuple(own), tuple(own), n, target).reached <= target:
            return own
        if not self.relax:
            if counts:
                raise BudgetError(self._unreachable(tower, target, depth, n))
            return own
        return list(range(1, depth + 1))

    # ------------------------------------------------------------ inside the towers

    def encode(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
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
        return decisions

    def _rounds_allowed(self, view: View) -> bool:
        """Rounds at the output: for opaque towers, and with `relax` for a tower whose count matters."""
        assert view.layout is not None
        return view.layout.depths[view.tower] == 0 or (self.relax and self._counts(view))

    def _counts(self, view: View) -> bool:
        """Whether the tower's tokens are what the language model gets: all but the followers of a shared fusion."""
        assert view.layout is not None
        return view.layout.fusion == "independent" or view.tower == self._lead(view.layout)

    def _shares(self, view: View) -> dict[str, Tensor]:
        """[R] tokens that each tower is to keep of a frame."""
        assert view.layout is not None
        sizes = {name: torch.full_like(view.target, grid.n) for name, grid in view.layout.grids.items()}
        if view.layout.fusion == "independent":
            return split_total(view.target, {name: n.double() for name, n in sizes.items()}, sizes)
        if bool((view.target < 1).any()):
            raise BudgetError("evoprune keeps at least one token of each frame; take a smaller ratio or fewer frames")
        lead = sizes[self._lead(view.layout)]
        kept = torch.minimum(view.target, lead).double()
        return {name: round_half_up(kept * n / lead).clamp(min=1) for name, n in sizes.items()}

    def _lead(self, layout: Layout) -> str:
        sequence = [name for name, depth in layout.depths.items() if depth > 0]
        return self.lead or max(sequence, key=lambda name: layout.grids[name].n)

    def _merge_inside(self, view: View, wanted: Tensor, final: Tensor) -> Decision:
        count = view.tokens.counts()
        r = torch.where(wanted < 0, torch.zeros_like(count), torch.minimum(count - wanted, count // 2)).clamp(min=0)
        attention = view.attention if self.attention else None
        into = self._round(view.tokens.x, view.tokens.visual, r, attention, final)
        own = torch.arange(into.shape[1], device=into.device)
        weight = torch.ones_like(view.tokens.size) if self.merge == "mean" else None
        return Decision(keep=into == own, merge_into=into, weight=weight)

    def _wanted(self, view: View, target: Tensor) -> tuple[Tensor, Tensor]:
        """[R] count after this layer (-1: it merges nothing), and whether it is the row's last merge layer."""
        assert view.layout is not None
        depth, n = view.layout.depths[view.tower], view.layout.grids[view.tower].n
        stops = view.layers[:-1]  # the last one is the output
        here = stops.index(view.layer)
        wanted, final = torch.full_like(target, -1), torch.zeros_like(target, dtype=torch.bool)
        for value in torch.unique(target).tolist():  # one or two values in a batch
            found = plan(self.schedule, tuple(self._blocks(depth)), stops, n, value)
            if found.reached > value and not self.relax and self._counts(view):
                raise BudgetError(self._unreachable(view.tower, value, depth, n))
            wanted = torch.where(target == value, found.counts[here], wanted)
            final = final | ((target == value) & (found.last == here) & self._counts(view))
        return wanted, final

    def _unreachable(self, tower: str, value: int, depth: int, n: int) -> str:
        blocks = tuple(self._blocks(depth))
        least = smallest(self.schedule, blocks, n)
        return (
            f"evoprune with schedule={self.schedule} cannot bring tower '{tower}' to {value} of {n} tokens: "
            f"{len(blocks)} merge layers of at most half each reach {least}; take relax=true or a smaller ratio"
        )

    def _round(
        self, x: Tensor, visual: Tensor, r: Tensor, attention: Tensor | None, force: Tensor | None = None
    ) -> Tensor:
        """Merge r tokens of each row once.

        Args:
            x: [R, N, D].
            visual: [R, N] bool, tokens that take part.
            r: [R] long, at most half of them.
            attention: [R, N] attention received, None to protect nobody.
            force: [R] bool, rows that may merge protected tokens rather than fall short.

        Returns:
            [R, N] long, the token that each one ends in: itself, or its partner; -1 for what takes no part.
        """
        rows, n, _ = x.shape
        count = visual.sum(1)
        # Visual tokens first, in order; their places 0, 2, 4, … are a, places 1, 3, 5, … are b.
        order = (~visual).to(torch.uint8).argsort(dim=1, stable=True)
        v = unit(x.gather(1, order[..., None].expand_as(x)))  # [R, N, D]
        place = torch.arange(n, device=x.device)
        present = place < count[:, None]
        guarded = torch.zeros_like(visual)
        if attention is not None:
            quota = torch.minimum((self.protect * count.double()).long(), count - 2 * r).clamp(min=0)
            guarded = keep_top(attention, quota, visual).gather(1, order)
        score = (v[:, 0::2] @ v[:, 1::2].transpose(1, 2)).clamp(min=0)  # [R, A, B]
        if self.diversity:
            apart = self._isolation(v, present)
            score = score * torch.exp(-self.strength * (apart[:, 0::2, None] + apart[:, None, 1::2]))
        possible = present[:, 0::2, None] & present[:, None, 1::2]
        legal = possible & ~guarded[:, 0::2, None] & ~guarded[:, None, 1::2]
        # Scores lie in [0, 1]; illegal edges come after all legal ones, impossible ones never.
        score = torch.where(legal, score, score - 2).masked_fill(~possible, -torch.inf)
        into = torch.arange(n, device=x.device).expand(rows, n)
        if score.shape[2] > 0:
            best, partner = score.max(2)  # [R, A], [R, A] place in b
            allowed = legal.any(2) if force is None else legal.any(2) | (force[:, None] & possible.any(2))
            merged = keep_top(best, r, allowed)
            source = order[:, 0::2]
            goal = order.gather(1, (2 * partner + 1).clamp(max=n - 1))
            into = into.scatter(1, source, torch.where(merged, goal, source))
        return torch.where(visual, into, -torch.ones_like(into))

    def _isolation(self, v: Tensor, present: Tensor) -> Tensor:
        """[R, N] d_i of unit vectors [R, N, D] whose first tokens of each row are present."""
        n = v.shape[1]
        count = present.sum(1)
        square = (2 - 2 * v @ v.transpose(1, 2)).clamp(min=0)  # [R, N, N] squared distances
        itself = torch.eye(n, dtype=torch.bool, device=v.device)
        square = square.masked_fill(itself | ~present[:, None], torch.inf)
        k = min(self.neighbours, n)
        near = square.topk(k, dim=2, largest=False).values  # [R, N, K]
        real = near.isfinite() & present[..., None]
        if self.temperature > 0:
            tau2 = torch.full_like(count, 0, dtype=v.dtype) + self.temperature**2
        else:
            distance = near.sqrt().masked_fill(~real, torch.nan)
            tau2 = distance.flatten(1).nanmedian(1).values.nan_to_num(1.0).square().clamp(min=1e-12)
        close = torch.exp(-near / tau2[:, None, None]).masked_fill(~real, 0.0)
        return 1 - close.sum(2) / real.sum(2).clamp(min=1)

    # ------------------------------------------------------------ at the outputs

    def _merge_rounds(self, view: View, target: Tensor) -> Decision:
        """Rounds of at most half, without attention, until the target is met."""
        tokens = view.tokens
        x, alive = tokens.x.float(), tokens.visual
        own = torch.arange(alive.shape[1], device=alive.device).expand_as(alive)
        into = torch.where(alive, own, -torch.ones_like(own))
        weight = torch.ones_like(tokens.size) if self.merge == "mean" else tokens.size
        empty = (target < 1)[:, None]
        target = target.clamp(min=1)
        while bool((alive.sum(1) > target).any()):
            count = alive.sum(1)
            r = torch.minimum(count - target, count // 2).clamp(min=0)
            step = self._round(x, alive, r, None)
            into = torch.where(into >= 0, step.gather(1, into.clamp(min=0)), into)
            x = absorb(tokens.x, weight, into)
            alive = alive & (step == own)
        alive, into = alive & ~empty, into.masked_fill(empty, -1)
        return Decision(keep=alive, merge_into=into, weight=weight if self.merge == "mean" else None)

    # ------------------------------------------------------------ shared fusion

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        """Average all encoders' features within the lead's groups."""
        decisions = {}
        for name, view in views.items():
            assert view.layout is not None
            lead = self._lead(view.layout)
            group = _on_grid(view.groups[lead], view.layout.grids[lead], view.tokens.grid)
            into = _split_largest(view.tokens.x, _leaders(group), view.target)
            own = torch.arange(into.shape[1], device=into.device)
            decisions[name] = Decision(keep=into == own, merge_into=into)
        return decisions


@lru_cache(maxsize=1024)
def plan(schedule: str, blocks: tuple[int, ...], stops: tuple[int, ...], n: int, target: int) -> Plan:
    """Token counts that bring a tower from n to ``target``, or as near as it gets.

    Args:
        blocks: the schedule's own merge layers.
        stops: layers where the method is asked: ``blocks``, or with spare ones in between.
    """
    spare = [stop for stop in stops if stop not in blocks]
    counts: list[int] = []
    used: list[int] = []
    for extra in range(len(spare) + 1):
        used = sorted([*blocks, *spare[:extra]])
        counts = _simulate(schedule, len(used), n, target)
        if counts[-1] <= target:
            break
    by_layer = dict(zip(used, counts, strict=True))
    return Plan(tuple(by_layer.get(stop, -1) for stop in stops), stops.index(used[-1]), counts[-1])


def _simulate(schedule: str, layers: int, n: int, target: int) -> list[int]:
    """Counts after each of the merge layers when no edge is short."""
    weights: Sequence[int] = {"increasing": range(1, layers + 1), "decreasing": range(layers, 0, -1)}.get(
        schedule, [1] * layers
    )
    total, done, left, counts = sum(weights), 0, n, []
    for weight in weights:
        done += weight
        wanted = n - (2 * (n - target) * done + total) // (2 * total)  # removed so far, rounded half up
        left -= max(0, min(left - wanted, left // 2))
        counts.append(left)
    return counts


def smallest(schedule: str, blocks: tuple[int, ...], n: int) -> int:
    """The smallest target that a schedule can reach."""
    return next(target for target in range(1, n + 1) if _simulate(schedule, len(blocks), n, target)[-1] <= target)


def _on_grid(group: Tensor, source: Grid, grid: Grid) -> Tensor:
    """[B, G] group of each cell of ``source`` -> [B, N] group of the nearest cell, for each cell of ``grid``."""
    if source == grid:
        return group
    t, h, w = grid
    cell = torch.arange(grid.n, device=group.device)
    frame = cell // (h * w) * source.t // t
    row = (2 * (cell // w % h) + 1) * source.h // (2 * h)
    col = (2 * (cell % w) + 1) * source.w // (2 * w)
    return group[:, (frame * source.h + row) * source.w + col]


def _leaders(group: Tensor) -> Tensor:
    """[B, N] any labels (non-negative) -> [B, N] index of the first cell with the same label."""
    own = torch.arange(group.shape[1], device=group.device).expand_as(group)
    width = int(group.max()) + 1
    first = torch.full((group.shape[0], width), group.shape[1], dtype=torch.long, device=group.device)
    return first.scatter_reduce(1, group, own, reduce="amin").gather(1, group)


def _split_largest(x: Tensor, into: Tensor, target: Tensor) -> Tensor:
    """[B, N] the partition with cells made independent until each row has ``target`` groups, least alike first."""
    own = torch.arange(into.shape[1], device=into.device)
    member = into != own
    missing = target - (~member).sum(1)
    if not bool((missing > 0).any()):
        return into
    mean = absorb(x, torch.ones_like(into, dtype=torch.float32), into)  # [B, N, D], at the leaders
    mean = mean.gather(1, into[..., None].expand_as(mean))
    apart = 1 - (unit(x) * unit(mean)).sum(-1)
    return torch.where(keep_top(apart, missing, member), own, into)
