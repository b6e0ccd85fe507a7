"""The vision encoders in lock-step to each encode point, whatever is decided there applied on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.cells import on_cells
from meteor_bench.core.frames_apart import apart
from meteor_bench.core.join import join_frames
from meteor_bench.core.model import PLAIN, Scene
from meteor_bench.core.pruner import EncodePoint, EncodeView
from meteor_bench.core.tokens import Grid, Later, LaterEach, Tokens
from meteor_bench.engine.engine import Engine, Generators
from meteor_bench.engine.tower_blocks import advance, attention_read, close_block
from meteor_bench.engine.tower_run import TowerRun

__all__ = ["Towered", "encode"]


@dataclass(frozen=True)
class Towered:
    """What left the encoders, for B samples of equal shape.

    Attributes:
        tokens: tower -> [B] rows, frames joined, not yet projected.
        counts: tower -> [B] tokens that left it, on the CPU.
        grid: the lead tower's grid of a sample as it came, before any `input_grid`.
        keys: one per sample, what its random numbers are seeded with.
        flops: per sample, stage -> FLOPs.
        scores, whole: tower -> [B, G], and names of towers, see `FuseView`.
        memo: what the method left for its decode points, [B, frames, ...] each, [B, 1, ...] of whole clips.
        scene: what the samples are besides their pixels.
    """

    tokens: dict[str, Tokens]
    counts: dict[str, Tensor]
    grid: Grid
    keys: tuple[str, ...]
    flops: list[dict[str, int]]
    notes: tuple[str, ...]
    scores: LaterEach[Tensor] = field(default_factory=partial(LaterEach[Tensor], {}))
    whole: frozenset[str] = frozenset()
    memo: dict[str, Tensor] = field(default_factory=dict)
    scene: Scene = PLAIN


def encode(engine: Engine, pixels: Tensor, keys: Sequence[str], scene: Scene = PLAIN) -> Towered:
    """Run all towers in lock-step to each encode point.

    Args:
        pixels: [B, F, C, H, W], samples of equal shape.
        keys: B strings that identify the samples.
        scene: what else they are.
    """
    samples, frames, _, height, width = pixels.shape
    grid = engine.vlm.grid(frames, height, width)
    rows = _resized(pixels.flatten(0, 1), grid, engine.input_grid(grid))  # [R = B·F, 3, H, W]
    # Tiles of an image are no frames of a clip.
    clips = engine.points.clips and frames > 1 and scene.framed
    runs: dict[str, TowerRun] = {}
    for name, tower in engine.vlm.at(scene).towers.items():
        with engine.clock.stage(f"encode.{name}"):
            runs[name] = TowerRun(tower, tower.embed(rows))
    sizes = _sizes(runs[engine.vlm.lead].tokens, frames)
    for run in runs.values() if clips else ():
        run.tokens = join_frames(run.tokens, frames)
        run.apart = apart(run.tokens)
    notes = set(engine.pruner.substitutes(engine.vlm)) | _substitutes(engine)
    reference = engine.vlm.at(scene).reference(grid)
    batch = _Batch(engine, runs, tuple(keys), grid.t, sizes, reference, scene, notes, {})
    for index, point in enumerate(engine.points.encode):
        _encode_point(batch, index, point)
    tokens: dict[str, Tokens] = {}
    _count_windows(engine, [run for run in runs.values() if run.tower.depth > run.done])
    for name, run in runs.items():
        with engine.clock.stage(f"encode.{name}"):
            advance(engine, run, run.tower.depth)
            tokens[name] = run.tower.finish(run.tokens)
            if not clips:
                tokens[name] = join_frames(tokens[name], frames)
        engine.record("tower", 0, name, tokens[name])
    return Towered(
        tokens=tokens,
        counts={name: t.counts() for name, t in tokens.items()},
        grid=grid,
        keys=batch.keys,
        flops=_encode_flops(runs, frames, rows.shape[-2], rows.shape[-1]),
        notes=tuple(sorted(notes)),
        scores=_scores(engine, runs, samples),
        whole=frozenset(n for n, run in runs.items() if run.scored is not None and run.scored[0].whole),
        memo={n: value.reshape(samples, -1, *value.shape[1:]) for n, value in batch.memo.items() if value.numel() > 0},
        scene=scene,
    )


def _resized(pixels: Tensor, grid: Grid, smaller: Grid | None) -> Tensor:
    """[R, 3, H, W] pictures of a grid as those of the grid that the method wants instead, if any."""
    if smaller is None or smaller == grid:
        return pixels
    height, width = pixels.shape[-2:]
    size = (height * smaller.h // grid.h, width * smaller.w // grid.w)
    # In float32: 16-bit has no antialiased kernel everywhere.
    small = torch.nn.functional.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True)
    return small.to(pixels.dtype)


def _sizes(tokens: Tokens, frames: int) -> list[int] | None:
    """Tokens of each of a sample's frames; None where all have equally many."""
    sizes: list[int] | None = tokens.counts()[:frames].tolist() if tokens.padded else None
    return sizes


def _substitutes(engine: Engine) -> set[str]:
    """What the engine does in place of something that the model cannot do."""
    notes = set()
    if engine.points.proportional:
        towers = [t.name for t in engine.vlm.towers.values() if t.depth > 0 and not t.weighable]
        notes |= {f"tower '{name}' cannot weigh merged tokens in its attention: each counts once" for name in towers}
    if engine.overruled:
        notes.add("tokens keep their positions, which have several axes here and cannot be renumbered")
    return notes


class _Rows(NamedTuple):
    """The R rows of a point.

    Attributes:
        keys: what their random numbers are seeded with.
        target, reference: [R] on the CPU, see `EncodeView`.
    """

    keys: list[str]
    target: Tensor
    reference: Tensor


@dataclass(frozen=True)
class _Batch:
    """Samples on their way through the encoders.

    Attributes:
        runs: tower -> how far it is.
        keys: what the samples' random numbers are seeded with.
        frames: of each sample.
        sizes: tokens of each of a sample's frames where they differ.
        reference: visual tokens of a sample that a ratio is of.
        notes: gathered on the way.
        memo: what the method left at the points so far.
    """

    engine: Engine
    runs: Mapping[str, TowerRun]
    keys: tuple[str, ...]
    frames: int
    sizes: Sequence[int] | None
    reference: int
    scene: Scene
    notes: set[str]
    memo: dict[str, Tensor]

    def rows(self) -> _Rows:
        """Clips where the method asked for them, else their frames."""
        totals = self.engine.budget.tokens(self.reference), self.reference
        if any(run.apart is not None for run in self.runs.values()):
            return _Rows(list(self.keys), *(torch.full((len(self.keys),), total) for total in totals))
        shares = (self.engine.frame_share(total, self.frames, len(self.keys), self.sizes) for total in totals)
        return _Rows([f"{key}/{frame}" for key in self.keys for frame in range(self.frames)], *shares)


def _encode_point(batch: _Batch, index: int, point: EncodePoint) -> None:
    """Bring the named towers to the point, ask the method, apply; keep what the method wants to remember."""
    engine, runs, rows = batch.engine, batch.runs, batch.rows()
    views: dict[str, EncodeView] = {}
    _count_windows(engine, [runs[name] for name, after in point.after.items() if after > runs[name].done])
    for name, after in point.after.items():
        with engine.clock.stage(f"encode.{name}"):
            probe = advance(engine, runs[name], after, point, batch.notes)
        views[name] = _view(batch, index, point, name, rows, probe)
    decisions = engine.ask(views, engine.pruner.encode)
    for name, view in views.items():
        run = runs[name]
        if name in decisions:
            decision = decisions[name]
            with engine.clock.stage("prune"):
                run.scored = None if decision.score is None else (_bare(run.tokens), decision.score)
                run.decided(apply(run.tokens, decision))
            where = f"encode point {index} (after block {point.after[name]} of '{name}')"
            engine.watch.after(where, view.tokens, decision, run.tokens)
        engine.record("encode", index, name, run.tokens)
        if point.inside:
            with engine.clock.stage(f"encode.{name}"):
                close_block(run)
    for decision in decisions.values():
        batch.memo.update(decision.memo)


def _view(batch: _Batch, index: int, point: EncodePoint, name: str, rows: _Rows, probe: Probe | None) -> EncodeView:
    """What the method sees of a tower at a point, and what the probe read there."""
    engine, run = batch.engine, batch.runs[name]
    framed = run.apart is None
    return EncodeView(
        tokens=run.tokens,
        target=rows.target,
        attention=attention_read(run, probe),
        keys=None if probe is None or probe.keys is None else run.joined(probe.keys),
        values=None if probe is None or probe.values is None else run.joined(probe.values),
        logits=None if probe is None or not framed else probe.logits,
        generators=Generators(engine.seed, rows.keys, f"encode.{index}.{name}"),
        tower=name,
        has_cls=run.tower.has_cls,
        layer=point.after[name],
        point=index,
        facts=engine.facts,
        reference=rows.reference,
        keep=engine.budget.keep,
        layout=engine.layout({other: r.tokens.grid for other, r in batch.runs.items()}, framed=batch.scene.framed),
        inside=point.inside,
        frames=run.apart,
        windows=_windows(run) if framed else None,
        in_windows=_in_windows(run) if framed else None,
        layers=tuple(step.after[name] for step in engine.points.encode if name in step.after),
        memo=dict(batch.memo),
    )


def _scores(engine: Engine, runs: Mapping[str, TowerRun], samples: int) -> LaterEach[Tensor]:
    """Tower -> [B, G] `FuseView.scores`, where there is a fuse point to see them, for whoever asks."""
    scored = {name: run.scored for name, run in runs.items() if engine.points.fuse is not None}
    return LaterEach({n: Later(partial(_of_cells, *of, samples)) for n, of in scored.items() if of is not None})


def _of_cells(tokens: Tokens, score: Tensor, samples: int) -> Tensor:
    return on_cells(tokens, score).reshape(samples, -1)


def _count_windows(engine: Engine, runs: Sequence[TowerRun]) -> None:
    """Ask the device once how many tokens are left in each window of encoders that run on, where it alone knows."""
    found: list[tuple[TowerRun, Tensor]] = []
    for run in runs:
        if run.apart is None:
            with engine.clock.stage(f"encode.{run.tower.name}"):
                left = run.tower.left_in_windows(run.tokens)
            found += [] if left is None else [(run, left)]
    if not found:
        return
    with engine.clock.stage(f"encode.{found[0][0].tower.name}"):
        together = torch.cat([left for _, left in found], 1).cpu()
    each = torch.split(together, [left.shape[1] for _, left in found], 1)
    for (run, _), left in zip(found, each, strict=True):
        run.tokens = run.tokens.changed(in_windows=left)


def _bare(tokens: Tokens) -> Tokens:
    """The tokens without their features, which would live on."""
    return tokens.changed(x=tokens.x.new_empty(*tokens.x.shape[:2], 0), deep=None)


def _windows(run: TowerRun) -> Later[Tensor | None]:
    """For whoever asks."""
    tower, tokens = run.tower, run.tokens
    return Later(lambda: tower.windows(tokens))


def _in_windows(run: TowerRun) -> Later[Tensor | None]:
    """For whoever asks; a GPU may have to be waited for."""
    tower, tokens = run.tower, run.tokens
    return Later(lambda: tower.in_windows(tokens))


def _encode_flops(runs: Mapping[str, TowerRun], frames: int, height: int, width: int) -> list[dict[str, int]]:
    """Per sample, the FLOPs of each tower."""
    rows = {f"encode.{name}": run.flops(height, width) for name, run in runs.items()}
    samples = len(next(iter(rows.values()))) // frames
    return [{name: sum(own[i * frames : (i + 1) * frames]) for name, own in rows.items()} for i in range(samples)]
