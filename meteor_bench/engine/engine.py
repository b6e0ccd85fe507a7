"""One model under one method at one budget: where it is asked, with what, and how its stages are timed.

encode (`engine.encode`) ▸ fuse (`engine.fuse`) ▸ prefill (`engine.prefill`) ▸ decode (`engine.generate`). What
depends on the image only (the first two, and `prefill.prefix`) is kept apart from what depends on the question, so
that the questions of an image can share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.clock import Clock
from meteor_bench.core.decisions import asked_all
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.finiteness import Watch
from meteor_bench.core.graphs import Graphs
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Decision, Layout, Points, Pruner, View
from meteor_bench.core.sent import drew
from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["Engine", "Generators", "Recorder", "default_positions", "seeded"]

Observer = Callable[[View], bool]
V = TypeVar("V", bound=View)
Recorder = Callable[[str, int, str, Tokens], None]


def seeded(seed: int, key: str, salt: str) -> torch.Generator:
    """A generator that depends on the run's seed and the sample alone, never on the batch it comes in."""
    digest = hashlib.blake2b(f"{seed}\0{key}\0{salt}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def default_positions(vlm: VLM, pruner: Pruner) -> str:
    """The method's published policy, but "keep" where the language model's positions have several axes.

    Contiguous numbers are a notion of one axis: there they would move tokens even when nothing is pruned.
    """
    return "keep" if vlm.decoder.axes > 1 else pruner.positions


class Generators(Sequence[torch.Generator]):
    """One generator per row of a view, made when it is first asked for: most methods draw nothing.

    Args:
        seed, salt: as for `seeded`.
        keys: one per row.
    """

    def __init__(self, seed: int, keys: Sequence[str], salt: str) -> None:
        self._seed, self._keys, self._salt = seed, keys, salt
        self._made: dict[int, torch.Generator] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, row: int) -> torch.Generator: ...

    @overload
    def __getitem__(self, row: slice) -> list[torch.Generator]: ...

    def __getitem__(self, row: int | slice) -> torch.Generator | list[torch.Generator]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        at = range(len(self))[row]
        drew()
        if at not in self._made:
            self._made[at] = seeded(self._seed, self._keys[at], self._salt)
        return self._made[at]


@dataclass
class _Instruments:
    """What times and watches an engine, and those that it made of itself (`Engine.at`)."""

    clock: Clock
    observer: Observer | None
    recorder: Recorder | None
    graphs: Graphs | None = None


class Engine:
    """One model under one method at one budget.

    Args:
        positions: "keep" or "renumber"; None takes `default_positions`.
        facts: constants measured by calibration.
        clock: times the stages.
        observer: called with the view at every point; where it returns True
            the method is not asked and nothing is pruned. For calibration.
        recorder: called with (kind, point, tower, tokens): what is left after each point, kind "encode" (rows as the
            method sees them) or "decode" (tower "llm"); what leaves each encoder, kind "tower"; what leaves fusion,
            kind and tower "fuse" and "fused". Read-only; for drawing.

    Raises:
        BudgetError, UnsupportedError: the method cannot run on this model or budget.
        ConfigError: parts of a composition collide on this model.
    """

    def __init__(
        self,
        vlm: VLM,
        pruner: Pruner,
        budget: TokenBudget,
        *,
        positions: str | None = None,
        seed: int = 0,
        facts: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._unbound = pruner
        pruner = pruner.bind(vlm, budget)
        self.vlm, self._pruner, self.budget = vlm, pruner, budget
        self.positions = positions or default_positions(vlm, pruner)
        self.overruled = positions is None and self.positions != pruner.positions
        self.seed, self.facts = seed, dict(facts or {})
        self._by = _Instruments(clock or Clock(vlm.device, enabled=False), observer, recorder)
        self.watch = Watch()
        self.points: Points = pruner.points(vlm, budget)
        self._check_points()
        self._input_grids: dict[Grid, Grid | None] = {}

    @property
    def pruner(self) -> Pruner:
        """The method, as it knows model and budget (`Pruner.bind`)."""
        return self._pruner

    @property
    def clock(self) -> Clock:
        """What times the stages."""
        return self._by.clock

    @property
    def graphs(self) -> Graphs | None:
        """What `engine.static_first` and `engine.static_decode` run by; None: operation by operation as ever."""
        return self._by.graphs

    @property
    def observer(self) -> Observer | None:
        """What is called with every view."""
        return self._by.observer

    @property
    def recorder(self) -> Recorder | None:
        """What is shown the tokens that are left after each point."""
        return self._by.recorder

    def at(self, budget: TokenBudget, clock: Clock | None = None) -> Engine:
        """The same at another budget; what times and watches one of the two does so with the other.

        Args:
            clock: another clock, and nobody watches.

        Raises:
            BudgetError: the method cannot run at it.
        """
        other = Engine(
            self.vlm, self._unbound, budget, positions=self.positions, seed=self.seed, facts=self.facts, clock=clock
        )
        other.overruled = self.overruled
        if clock is None:
            other._by, other.watch = self._by, self.watch
        return other

    @contextmanager
    def instrumented(
        self,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        recorder: Recorder | None = None,
        pruner: Pruner | None = None,
        graphs: Graphs | None = None,
    ) -> Iterator[None]:
        """Within the block, another clock, observer, recorder, graphs, or a method that asks this one and watches it.

        What is not given stays as it is; afterwards everything is as before, whatever happens in the block.
        """
        by, before, method = self._by, replace(self._by), self._pruner
        by.clock, by.graphs, self._pruner = clock or by.clock, graphs or by.graphs, pruner or method
        by.observer, by.recorder = observer or by.observer, recorder or by.recorder
        try:
            yield
        finally:
            by.clock, by.observer, by.recorder, by.graphs = (
                before.clock,
                before.observer,
                before.recorder,
                before.graphs,
            )
            self._pruner = method

    @contextmanager
    def uncaptured(self) -> Iterator[None]:
        """Within the block without `graphs`."""
        graphs, self._by.graphs = self._by.graphs, None
        try:
            yield
        finally:
            self._by.graphs = graphs

    def _check_points(self) -> None:
        depth = self.vlm.decoder.depth
        for point in self.points.decode:
            if not 0 <= point.before < depth:
                raise UnsupportedError(
                    f"{type(self.pruner).__name__} prunes before LLM layer {point.before}; "
                    f"model '{self.vlm.name}' has layers 0 to {depth - 1}"
                )
        for step in self.points.encode:
            for name, after in step.after.items():
                if name not in self.vlm.towers or not 0 <= after <= self.vlm.towers[name].depth:
                    raise UnsupportedError(
                        f"{type(self.pruner).__name__} prunes after block {after} of '{name}', "
                        f"which model '{self.vlm.name}' does not have"
                    )

    def input_grid(self, grid: Grid) -> Grid | None:
        """The method's input grid for samples of a grid, worked out once."""
        if grid not in self._input_grids:
            self._input_grids[grid] = self.pruner.input_grid(self.vlm, self.budget, grid)
        return self._input_grids[grid]

    def layout(
        self, grids: Mapping[str, Grid], cells: Mapping[str, Tensor] | None = None, *, framed: bool = True
    ) -> Layout:
        """The model around a view; arguments as in `Layout`."""
        depths = {name: tower.depth for name, tower in self.vlm.towers.items()}
        return Layout(self.vlm.fusion.kind, grids, depths, cells or {}, framed)

    def frame_share(self, total: int, frames: int, batch: int, sizes: Sequence[int] | None = None) -> Tensor:
        """[B·F] on the CPU, the frames' shares of a sample's tokens; the first frames take the remainder.

        Args:
            sizes: tokens of each frame where they differ; the shares are in proportion, the largest parts rounded up.
        """
        if sizes is not None:
            exact = [total * size / sum(sizes) for size in sizes]
            shares = [int(share) for share in exact]
            for f in sorted(range(frames), key=lambda f: shares[f] - exact[f])[: total - sum(shares)]:
                shares[f] += 1
            return torch.tensor(shares * batch)
        base, rest = divmod(total, frames)
        return torch.tensor([base + (f < rest) for f in range(frames)] * batch)

    def ask(
        self,
        views: Mapping[str, V],
        hook: Callable[[Mapping[str, V]], Mapping[str, Decision]],
    ) -> Mapping[str, Decision]:
        """The method's decisions, unless the observer holds it back."""
        if self.observer is not None and any([self.observer(view) for view in views.values()]):
            return {}
        self.watch.before(views.values())
        with self.clock.stage("prune"):
            return asked_all(self.pruner, views, hook)

    def record(self, kind: str, point: int, tower: str, tokens: Tokens) -> None:
        """Show the recorder, if any, what is left."""
        if self.recorder is not None:
            self.recorder(kind, point, tower, tokens)
