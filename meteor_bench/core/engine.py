"""encode ▸ fuse ▸ prefill ▸ decode, asking the pruner at its points and applying what it decides.

What depends on the image only (`encode`, `fuse`, `Prefix`) is kept apart from what depends on the question, so that
the questions of an image can share it. Every stage works on a batch; ragged token counts are padded and masked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.apply import apply, concat, densify, join_frames, rows_of
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.clock import Clock
from meteor_bench.core.probe import Probe
from meteor_bench.core.pruner import Decision, EncodePoint, Layout, Points, Pruner, View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.core.trace import SampleTrace
from meteor_bench.errors import UnsupportedError
from meteor_bench.models.base import VLM, VisionTower

__all__ = ["Engine", "Towered", "Visual", "seeded"]

Observer = Callable[[str, View], bool]


def seeded(seed: int, key: str, salt: str) -> torch.Generator:
    """A generator that depends on the run's seed and the sample alone, never on the batch it comes in."""
    digest = hashlib.blake2b(f"{seed}\0{key}\0{salt}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@dataclass(frozen=True)
class Towered:
    """What left the encoders, for B samples of equal shape.

    Attributes:
        tokens: tower -> [B] rows, frames joined, not yet projected.
        counts: tower -> [B] tokens that left it.
        grid: the lead tower's grid of a sample as it came, before any `input_grid`.
        keys: one per sample, what its random numbers are seeded with.
        flops: per sample, stage -> FLOPs.
    """

    tokens: dict[str, Tokens]
    counts: dict[str, Tensor]
    grid: Grid
    keys: tuple[str, ...]
    flops: list[dict[str, int]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Visual:
    """Visual tokens as the language model gets them.

    Attributes:
        tokens: [B, N, D_llm]; origins count through the unpruned layout.
        layout: length of the unpruned visual sequence, which spaces the position ids.
        shape: the towers' grids, for views.
        target: [B] the budget after the last pruning point.
        traces: counts so far, one per sample.
    """

    tokens: Tokens
    layout: int
    shape: Layout
    target: Tensor
    keys: tuple[str, ...]
    traces: list[SampleTrace]


@dataclass
class _TowerRun:
    """A tower on its way through its blocks."""

    tower: VisionTower
    tokens: Tokens
    done: int = 0
    blocks: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)  # (how many, [R] attention, [R] MLP)


class Engine:
    """One model under one method at one budget.

    Args:
        positions: "keep" or "renumber"; None takes the method's published default.
        facts: constants measured by calibration.
        clock: times the stages.
        observer: called with (kind, view) at every point, kind "encode", "fuse" or "decode"; where it returns True
            the method is not asked and nothing is pruned. For calibration and for drawing.

    Raises:
        BudgetError, UnsupportedError: the method cannot run on this model or budget.
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
    ) -> None:
        self.vlm, self.pruner, self.budget = vlm, pruner, budget
        self.positions = positions or pruner.positions
        self.seed, self.facts, self.observer = seed, dict(facts or {}), observer
        self.clock = clock or Clock(vlm.device, enabled=False)
        self.points: Points = pruner.points(vlm, budget)
        self._check_points()

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

    # ---------------------------------------------------------------- encode

    def encode(self, pixels: Tensor, keys: Sequence[str]) -> Towered:
        """Run all towers in lock-step to each encode point.

        Args:
            pixels: [B, F, 3, H, W], samples of equal shape.
            keys: B strings that identify the samples.
        """
        batch, frames, _, height, width = pixels.shape
        grid = self.vlm.grid(frames, height, width)
        smaller = self.pruner.input_grid(self.vlm, self.budget, grid)
        rows = pixels.flatten(0, 1)  # [R = B·F, 3, H, W]
        if smaller is not None and smaller != grid:
            size = (height * smaller.h // grid.h, width * smaller.w // grid.w)
            rows = torch.nn.functional.interpolate(rows, size=size, mode="bilinear", antialias=True)
        runs: dict[str, _TowerRun] = {}
        for name, tower in self.vlm.towers.items():
            with self.clock.stage(f"encode.{name}"):
                runs[name] = _TowerRun(tower, tower.embed(rows))
        notes: set[str] = set()
        for index, point in enumerate(self.points.encode):
            self._encode_point(runs, index, point, grid, keys, notes)
        tokens: dict[str, Tokens] = {}
        for name, run in runs.items():
            with self.clock.stage(f"encode.{name}"):
                self._advance(run, run.tower.depth)
                tokens[name] = join_frames(run.tower.finish(run.tokens), frames)
        return Towered(
            tokens=tokens,
            counts={name: t.counts() for name, t in tokens.items()},
            grid=grid,
            keys=tuple(keys),
            flops=_encode_flops(runs, batch, frames, rows.shape[-2], rows.shape[-1]),
            notes=tuple(sorted(notes)),
        )

    def _encode_point(
        self,
        runs: dict[str, _TowerRun],
        index: int,
        point: EncodePoint,
        grid: Grid,
        keys: Sequence[str],
        notes: set[str],
    ) -> None:
        """Bring the named towers to the point, ask the method, apply."""
        target = self._frame_share(self.budget.tokens(self.vlm.reference(grid)), grid.t, len(keys))
        names = [f"{key}/{frame}" for key in keys for frame in range(grid.t)]
        views: dict[str, View] = {}
        for name, after in point.after.items():
            run = runs[name]
            with self.clock.stage(f"encode.{name}"):
                probe, block = self._advance(run, after, point, notes), after - 1
            views[name] = View(
                tokens=run.tokens,
                target=target,
                attention=_tower_attention(probe),
                keys=None if probe is None else probe.keys,
                generators=tuple(seeded(self.seed, key, f"encode.{index}.{name}") for key in names),
                tower=name,
                has_cls=run.tower.has_cls,
                layer=block + 1,
                point=index,
                facts=self.facts,
                reference=self._frame_share(self.vlm.reference(grid), grid.t, len(keys)),
                keep=self.budget.keep,
                layout=self._layout({other: r.tokens.grid for other, r in runs.items()}),
                inside=point.inside,
                layers=tuple(step.after[name] for step in self.points.encode if name in step.after),
            )
        decisions = self._ask("encode", views, self.pruner.encode)
        for name in views:
            run = runs[name]
            if name in decisions:
                with self.clock.stage("prune"):
                    run.tokens = apply(run.tokens, decisions[name])
            if point.inside:
                with self.clock.stage(f"encode.{name}"):
                    self._close_block(run)

    def _advance(
        self, run: _TowerRun, stop: int, point: EncodePoint | None = None, notes: set[str] | None = None
    ) -> Probe | None:
        """Run blocks up to ``stop``; at an `inside` point the last one's MLP is left for `_close_block`."""
        inside = point is not None and point.inside
        if inside and not run.tower.halves:
            raise UnsupportedError(
                f"{type(self.pruner).__name__} works inside encoder blocks; tower '{run.tower.name}' of model "
                f"'{self.vlm.name}' has none that can be opened"
            )
        wanted = point is not None and (point.attention is not None or point.keys) and run.tower.depth > 0
        read_at = stop - 1
        if point is not None:
            read_at = point.attention_block.get(run.tower.name, stop - 1)
        if wanted and read_at < run.done:
            raise UnsupportedError(f"attention of block {read_at} of '{run.tower.name}' was asked for too late")
        mask = _tower_mask(run.tokens)
        lengths = run.tokens.valid.sum(1)
        probe: Probe | None = None
        x = run.tokens.x
        for block in range(run.done, stop):
            reading = None
            if wanted and point is not None and block == read_at:
                reading = probe = self._tower_probe(run, point, notes if notes is not None else set())
            x = run.tower.attend(block, x, mask, reading)
            if inside and block == stop - 1:
                break
            x = run.tower.feed(block, x)
        whole = stop - run.done - (1 if inside and stop > run.done else 0)
        if whole > 0:
            run.blocks.append((whole, lengths, lengths))
        if inside and stop > run.done:
            run.blocks.append((1, lengths, lengths))  # the MLP half is corrected by _close_block
        run.tokens = run.tokens.with_x(x)
        run.done = stop
        return probe

    def _close_block(self, run: _TowerRun) -> None:
        """The MLP half of an interrupted block, on what survived."""
        run.tokens = run.tokens.with_x(run.tower.feed(run.done - 1, run.tokens.x))
        count, attention, _ = run.blocks[-1]
        run.blocks[-1] = (count, attention, run.tokens.valid.sum(1))

    def _tower_probe(self, run: _TowerRun, point: EncodePoint, notes: set[str]) -> Probe:
        if point.attention is None:
            return Probe(mode="keys", want_keys=True)
        if point.attention == "cls" and run.tower.has_cls:
            rows = run.tokens.special.to(torch.uint8).argmax(1, keepdim=True)  # [R, 1]
            return Probe(mode="rows", rows=rows, want_keys=point.keys)
        if point.attention == "cls":
            notes.add(
                f"tower '{run.tower.name}' has no class token: mean attention received takes its attention's place"
            )
        return Probe(mode="received", queries=run.tokens.valid, want_keys=point.keys)

    def _layout(self, grids: Mapping[str, Grid]) -> Layout:
        """The model around a view."""
        depths = {name: tower.depth for name, tower in self.vlm.towers.items()}
        return Layout(self.vlm.fusion.kind, grids, depths)

    def _frame_share(self, total: int, frames: int, batch: int) -> Tensor:
        """[B·F] the frames' shares of a sample's tokens; the first frames take the remainder."""
        base, rest = divmod(total, frames)
        return torch.tensor([base + (f < rest) for f in range(frames)] * batch, device=self.vlm.device)

    # ------------------------------------------------------------------ fuse

    def fuse(self, towered: Towered, rows: Sequence[int] | None = None, text: Tensor | None = None) -> Visual:
        """Project, let the method choose, concatenate.

        Args:
            rows: samples to take (repeats allowed), all by default.
            text: [len(rows), T, D] embeddings of the questions, for a method whose fuse point needs them.
        """
        if rows is not None:
            index = torch.tensor(rows, device=self.vlm.device)
            towered = replace(
                towered,
                tokens={name: rows_of(t, index) for name, t in towered.tokens.items()},
                counts={name: c[index] for name, c in towered.counts.items()},
                keys=tuple(towered.keys[i] for i in rows),
                flops=[dict(towered.flops[i]) for i in rows],
            )
        with self.clock.stage("fuse"):
            if self.vlm.fusion.kind == "shared":
                tokens, projected = self._fuse_shared(towered, text)
            else:
                tokens, projected = self._fuse_independent(towered, text)
        reference = self.vlm.reference(towered.grid)
        total = self.budget.tokens(reference)
        fused = tokens.counts().tolist()
        traces = []
        left = {name: counts.tolist() for name, counts in towered.counts.items()}
        for i in range(len(towered.keys)):
            per_tower = {name: n[i] for name, n in projected.items()}
            traces.append(
                SampleTrace(
                    towers={name: n[i] for name, n in left.items()},
                    fused=fused[i],
                    reference=reference,
                    target=total,
                    flops={**towered.flops[i], "fuse": self.vlm.fusion.flops(per_tower)},
                    notes=towered.notes,
                )
            )
        return Visual(
            tokens=tokens,
            layout=tokens.grid.n,
            shape=self._layout({name: t.grid for name, t in towered.tokens.items()}),
            target=torch.full((len(towered.keys),), total, device=self.vlm.device),
            keys=towered.keys,
            traces=traces,
        )

    def _fuse_view(self, towered: Towered, tokens: Tokens, tower: str, text: Tensor | None, **more: Any) -> View:
        reference = self.vlm.reference(towered.grid)
        rows = (len(towered.keys),)
        return View(
            tokens=tokens,
            target=torch.full(rows, self.budget.tokens(reference), device=self.vlm.device),
            reference=torch.full(rows, reference, device=self.vlm.device),
            keep=self.budget.keep,
            layout=self._layout({name: t.grid for name, t in towered.tokens.items()}),
            text=text,
            generators=tuple(seeded(self.seed, key, f"fuse.{tower}") for key in towered.keys),
            tower=tower,
            has_cls=False if tower == "fused" else self.vlm.towers[tower].has_cls,
            groups={name: t.group for name, t in towered.tokens.items()},
            facts=self.facts,
            **more,
        )

    def _fuse_independent(self, towered: Towered, text: Tensor | None) -> tuple[Tokens, dict[str, list[int]]]:
        fusion = self.vlm.fusion
        counts = {name: t.counts().tolist() for name, t in towered.tokens.items()}
        parts = {name: fusion.project(t, name) for name, t in towered.tokens.items()}
        if self.points.fuse is not None:
            views = {name: self._fuse_view(towered, t, name, text) for name, t in parts.items()}
            decisions = self._ask("fuse", views, self.pruner.fuse)
            with self.clock.stage("prune"):
                parts = {name: apply(t, decisions[name]) if name in decisions else t for name, t in parts.items()}
        return concat([fusion.place(t, name) for name, t in parts.items()]), counts

    def _fuse_shared(self, towered: Towered, text: Tensor | None) -> tuple[Tokens, dict[str, list[int]]]:
        fusion, point = self.vlm.fusion, self.points.fuse
        grids = {name: t.grid for name, t in towered.tokens.items()}
        aligned = fusion.align({name: densify(t) for name, t in towered.tokens.items()}, grids)
        tokens = Tokens.dense(aligned, fusion.common(grids))
        if point is None or not point.features:
            counts = {"fused": tokens.counts().tolist()}
            tokens = fusion.project(tokens)
        if point is not None:
            partials = fusion.partials(aligned) if point.partial else None
            views = {"fused": self._fuse_view(towered, tokens, "fused", text, partials=partials)}
            decisions = self._ask("fuse", views, self.pruner.fuse)
            if "fused" in decisions:
                with self.clock.stage("prune"):
                    tokens = apply(tokens, decisions["fused"])
            if point.features:
                counts = {"fused": tokens.counts().tolist()}
                tokens = fusion.project(tokens)
        return fusion.place(tokens), counts

    def _ask(
        self,
        kind: str,
        views: Mapping[str, View],
        hook: Callable[[Mapping[str, View]], Mapping[str, Decision]],
    ) -> Mapping[str, Decision]:
        """The method's decisions, unless the observer holds it back."""
        if self.observer is not None and any([self.observer(kind, view) for view in views.values()]):
            return {}
        with self.clock.stage("prune"):
            return hook(views)


def _tower_attention(probe: Probe | None) -> Tensor | None:
    """[R, N]: class rows averaged over heads, or what the probe already averaged."""
    if probe is None or probe.attention is None:
        return None
    return probe.attention if probe.mode == "received" else probe.attention.mean(1)[:, 0]


def _tower_mask(tokens: Tokens) -> Tensor | None:
    """[R, 1, N, N] bool, valid keys; padding sees itself so that no row is empty. None when nothing is padded."""
    if not tokens.padded:
        return None
    n = tokens.valid.shape[1]
    itself = torch.eye(n, dtype=torch.bool, device=tokens.valid.device)
    return (tokens.valid[:, None, :] | itself)[:, None]


def _encode_flops(
    runs: Mapping[str, _TowerRun], batch: int, frames: int, height: int, width: int
) -> list[dict[str, int]]:
    """Per sample, the FLOPs of each tower on the lengths its blocks really had."""
    out: list[dict[str, int]] = [{} for _ in range(batch)]
    for name, run in runs.items():
        embed = run.tower.flops_embed(height, width) * frames
        blocks = [(count, a.tolist(), m.tolist()) for count, a, m in run.blocks]
        for i in range(batch):
            total = embed
            for row in range(i * frames, (i + 1) * frames):
                total += sum(count * run.tower.flops_block(a[row], m[row]) for count, a, m in blocks)
            out[i][f"encode.{name}"] = total
    return out
