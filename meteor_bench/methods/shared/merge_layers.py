"""At which blocks of the encoders a method merges, and down to how many tokens each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError, UnsupportedError
from meteor_bench.core.pruner import EncodePoint, EncodeView, FusePoint, Layout, Points, Pruner
from meteor_bench.methods.shared.helpers import frame_shares, round_half_up
from meteor_bench.methods.shared.schedules import plan, smallest

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["MergeLayers"]


class _Native(NamedTuple):
    """A tower on an image of the model's own size: its tokens, its target, whether its tokens are what counts."""

    n: int
    target: int
    counts: bool


@dataclass(frozen=True)
class MergeLayers(Pruner):
    """The merge layers of a method; what `relax` does, and several encoders: see `shared.merging`.

    Attributes:
        schedule: which blocks merge: skip (every other), mean (all), first or last (half of them), all with r growing
            (increasing) or shrinking (decreasing) linearly.
        start: first merge block of "skip", 0 or 1.
        relax: add merge layers where the target needs them.
        merge: size (weighted by the number of patches a token stands for) or mean.
        lead: tower whose groups decide on a shared fusion; empty for the sequence tower with the most tokens.
    """

    schedule: Literal["skip", "mean", "first", "last", "increasing", "decreasing"] = "mean"
    start: Literal[0, 1] = 0
    relax: bool = True
    merge: Literal["size", "mean"] = "size"
    lead: str = ""

    title: ClassVar[str] = ""
    proportional: ClassVar[bool] = False
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def layer_point(self, after: Mapping[str, int]) -> EncodePoint:
        """What a merge layer wants to know."""
        return EncodePoint(after=after, inside=True)

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Inside the merge layers, and at the towers' outputs."""
        shared = vlm.fusion.kind == "shared"
        depths = {name: tower.depth for name, tower in vlm.towers.items() if tower.depth > 0}
        if not depths:
            raise UnsupportedError(f"{self.title} merges inside sequence encoders; '{vlm.name}' has none")
        if self.lead and self.lead not in depths:
            raise UnsupportedError(
                f"{self.title}: lead='{self.lead}' is no sequence encoder of '{vlm.name}'; it has {', '.join(depths)}"
            )
        layers = {name: self._layers(name, depth, *self._native(vlm, budget, name)) for name, depth in depths.items()}
        steps = [
            self.layer_point({name: own[i] for name, own in layers.items() if i < len(own)})
            for i in range(max(map(len, layers.values())))
        ]
        ends = depths if shared else {name: tower.depth for name, tower in vlm.towers.items()}
        return Points(
            encode=(*steps, EncodePoint(after=ends)),
            fuse=FusePoint(features=True) if shared else None,
            proportional=self.proportional,
        )

    def _blocks(self, depth: int) -> list[int]:
        """Merge blocks of the schedule, as block counts (block 0 is 1)."""
        blocks = {
            "skip": range(self.start, depth, 2),
            "content": range(self.start, depth, 2),
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
        most, common = grids[lead].n, vlm.reference(vlm.grid(1, *vlm.native))
        kept = min(most, max(target, target * most // common))
        return _Native(n, max(1, kept * n // most), name == lead)

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

    def _counts(self, view: EncodeView) -> bool:
        """Whether the tower's tokens are what the language model gets: all but the followers of a shared fusion."""
        return view.layout.fusion == "independent" or view.tower == self._lead(view.layout)

    def _shares(self, view: EncodeView) -> dict[str, Tensor]:
        """[R] tokens that each tower is to keep of a frame."""
        if view.layout.fusion == "independent":
            return frame_shares(view)
        sizes = {name: torch.full_like(view.target, grid.n) for name, grid in view.layout.grids.items()}
        if view.keep >= 1:  # a model that pools its towers' grids feeds less than a tower has
            return sizes
        if bool((view.target < 1).any()):
            raise BudgetError(
                f"{self.title} keeps at least one token of each frame; take a smaller ratio or fewer frames"
            )
        lead = sizes[self._lead(view.layout)]
        kept = torch.minimum(torch.maximum(view.target, view.target * lead // view.reference), lead).double()
        whole = round_half_up(torch.stack([kept * n / lead for n in sizes.values()])).clamp(min=1)
        return dict(zip(sizes, whole.unbind(), strict=True))

    def _lead(self, layout: Layout) -> str:
        sequence = [name for name, depth in layout.depths.items() if depth > 0]
        return self.lead or max(sequence, key=lambda name: layout.grids[name].n)

    def _wanted(self, view: EncodeView, target: Tensor) -> tuple[Tensor, Tensor]:
        """[R] on the CPU: count after this layer (-1: no merge), and whether it is the row's last merge layer."""
        depth, n = view.layout.depths[view.tower], view.layout.grids[view.tower].n
        stops = view.layers[:-1]  # the last one is the output
        here = stops.index(view.layer)
        blocks, counts = tuple(self._blocks(depth)), self._counts(view)
        values = target.tolist()
        found = {value: plan(self.schedule, blocks, stops, n, value) for value in set(values)}  # one or two in a batch
        for value, planned in found.items():
            if planned.reached > value and not self.relax and counts:
                raise BudgetError(self._unreachable(view.tower, value, depth, n))
        wanted = torch.tensor([found[value].counts[here] for value in values])
        final = torch.tensor([counts and found[value].last == here for value in values])
        return wanted, final

    def _unreachable(self, tower: str, value: int, depth: int, n: int) -> str:
        blocks = tuple(self._blocks(depth))
        least = smallest(self.schedule, blocks, n)
        return (
            f"{self.title} with schedule={self.schedule} cannot bring tower '{tower}' to {value} of {n} tokens: "
            f"{len(blocks)} merge layers of at most half each reach {least}; take relax=true or a smaller ratio"
        )
