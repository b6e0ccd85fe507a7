"""The vision encoders in lock-step to each encode point, whatever is decided there applied on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.cells import on_cells
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.frames_apart import apart
from meteor_bench.core.host import upload
from meteor_bench.core.join import join_frames
from meteor_bench.core.model import PLAIN, Scene
from meteor_bench.core.pruner import EncodePoint, EncodeView
from meteor_bench.core.tokens import Grid, Later, LaterEach, Tokens
from meteor_bench.engine.engine import Engine, Generators
from meteor_bench.engine.tower_run import Ran, TowerRun

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
    batch, frames, _, height, width = pixels.shape
    grid = engine.vlm.grid(frames, height, width)
    reference = engine.vlm.at(scene).reference(grid)
    smaller = engine.input_grid(grid)
    rows = pixels.flatten(0, 1)  # [R = B·F, 3, H, W]
    if smaller is not None and smaller != grid:
        size = (height * smaller.h // grid.h, width * smaller.w // grid.w)
        # In float32: 16-bit has no antialiased kernel everywhere.
        small = torch.nn.functional.interpolate(rows.float(), size=size, mode="bilinear", antialias=True)
        rows = small.to(rows.dtype)
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
    memo: dict[str, Tensor] = {}
    for index, point in enumerate(engine.points.encode):
        memo |= _encode_point(engine, runs, index, point, grid, reference, keys, notes, memo, sizes, scene)
    tokens: dict[str, Tokens] = {}
    _count_windows(engine, [run for run in runs.values() if run.tower.depth > run.done])
    for name, run in runs.items():
        with engine.clock.stage(f"encode.{name}"):
            _advance(engine, run, run.tower.depth)
            tokens[name] = run.tower.finish(run.tokens)
            if not clips:
                tokens[name] = join_frames(tokens[name], frames)
        engine.record("tower", 0, name, tokens[name])
    return Towered(
        tokens=tokens,
        counts={name: t.counts() for name, t in tokens.items()},
        grid=grid,
        keys=tuple(keys),
        flops=_encode_flops(runs, frames, rows.shape[-2], rows.shape[-1]),
        notes=tuple(sorted(notes)),
        scores=_scores(engine, runs, batch),
        whole=frozenset(n for n, run in runs.items() if run.scored is not None and run.scored[0].whole),
        memo={name: value.reshape(batch, -1, *value.shape[1:]) for name, value in memo.items() if value.numel() > 0},
        scene=scene,
    )


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


def _encode_point(
    engine: Engine,
    runs: dict[str, TowerRun],
    index: int,
    point: EncodePoint,
    grid: Grid,
    reference: int,
    keys: Sequence[str],
    notes: set[str],
    memo: Mapping[str, Tensor],
    sizes: Sequence[int] | None,
    scene: Scene,
) -> dict[str, Tensor]:
    """Bring the named towers to the point, ask the method, apply; what the method wants to remember."""
    total = engine.budget.tokens(reference)
    if any(run.apart is not None for run in runs.values()):
        shares = [torch.full((len(keys),), n) for n in (total, reference)]
        names = list(keys)
    else:
        shares = [engine.frame_share(n, grid.t, len(keys), sizes) for n in (total, reference)]
        names = [f"{key}/{frame}" for key in keys for frame in range(grid.t)]
    views: dict[str, EncodeView] = {}
    _count_windows(engine, [runs[name] for name, after in point.after.items() if after > runs[name].done])
    for name, after in point.after.items():
        run = runs[name]
        with engine.clock.stage(f"encode.{name}"):
            probe, block = _advance(engine, run, after, point, notes), after - 1
        views[name] = EncodeView(
            tokens=run.tokens,
            target=shares[0],
            attention=_tower_attention(run, probe),
            keys=None if probe is None or probe.keys is None else run.joined(probe.keys),
            values=None if probe is None or probe.values is None else run.joined(probe.values),
            logits=None if probe is None or run.apart is not None else probe.logits,
            generators=Generators(engine.seed, names, f"encode.{index}.{name}"),
            tower=name,
            has_cls=run.tower.has_cls,
            layer=block + 1,
            point=index,
            facts=engine.facts,
            reference=shares[1],
            keep=engine.budget.keep,
            layout=engine.layout({other: r.tokens.grid for other, r in runs.items()}, framed=scene.framed),
            inside=point.inside,
            frames=run.apart,
            windows=None if run.apart is not None else _windows(run),
            in_windows=None if run.apart is not None else _in_windows(run),
            layers=tuple(step.after[name] for step in engine.points.encode if name in step.after),
            memo=dict(memo),
        )
    decisions = engine.ask(views, engine.pruner.encode)
    for name in views:
        run = runs[name]
        if name in decisions:
            decision = decisions[name]
            with engine.clock.stage("prune"):
                run.scored = None if decision.score is None else (_bare(run.tokens), decision.score)
                run.decided(apply(run.tokens, decision))
            where = f"encode point {index} (after block {point.after[name]} of '{name}')"
            engine.watch.after(where, views[name].tokens, decision, run.tokens)
        engine.record("encode", index, name, run.tokens)
        if point.inside:
            with engine.clock.stage(f"encode.{name}"):
                _close_block(run)
    return {name: value for decision in decisions.values() for name, value in decision.memo.items()}


def _scores(engine: Engine, runs: Mapping[str, TowerRun], batch: int) -> LaterEach[Tensor]:
    """Tower -> [B, G] `FuseView.scores`, where there is a fuse point to see them, for whoever asks."""
    scored = {name: run.scored for name, run in runs.items() if engine.points.fuse is not None}
    return LaterEach({n: Later(partial(_of_cells, *of, batch)) for n, of in scored.items() if of is not None})


def _of_cells(tokens: Tokens, score: Tensor, batch: int) -> Tensor:
    return on_cells(tokens, score).reshape(batch, -1)


def _advance(
    engine: Engine, run: TowerRun, stop: int, point: EncodePoint | None = None, notes: set[str] | None = None
) -> Probe | None:
    """Run blocks up to ``stop``; at an `inside` point the last one's MLP is left for `_close_block`."""
    inside = point is not None and point.inside
    if inside and not run.tower.halves:
        raise UnsupportedError(
            f"{type(engine.pruner).__name__} works inside encoder blocks; tower '{run.tower.name}' of model "
            f"'{engine.vlm.name}' has none that can be opened"
        )
    wanted = point is not None and run.tower.depth > 0 and (point.attention is not None or _beside(point))
    if wanted and point is not None and (point.values or point.logits) and not run.tower.opens:
        raise UnsupportedError(
            f"{type(engine.pruner).__name__} reads the values or logits of encoder attention; tower '{run.tower.name}' "
            f"of model '{engine.vlm.name}' does not give them"
        )
    if point is not None and point.attention is not None and run.tower.depth == 0 and notes is not None:
        notes.add(f"tower '{run.tower.name}' has no attention: the method's substitute takes its place")
    read_at = stop - 1
    if point is not None:
        read_at = point.attention_block.get(run.tower.name, stop - 1)
    if wanted and read_at < run.done:
        raise UnsupportedError(f"attention of block {read_at} of '{run.tower.name}' was asked for too late")
    rows = run.rows
    mask = _tower_mask(rows, engine.points.proportional and run.tower.weighable)
    lengths = _lengths(run)
    where = run.tower.where(rows) if stop > run.done else None
    probe: Probe | None = None
    x = rows.x
    for block in range(run.done, stop):
        reading = None
        if wanted and point is not None and block == read_at:
            reading = probe = _tower_probe(engine, run, rows, point, notes if notes is not None else set())
        x = run.tower.attend(block, x, mask, reading, where)
        if inside and block == stop - 1:
            break
        x = run.tower.feed(block, x)
        _tap(run, block, x)
    pairs = [_of_all(run, run.tower.pairs(block, where)) for block in range(run.done, stop)]
    if pairs and pairs[0] is None and not inside:  # all alike
        run.blocks.append(Ran(len(pairs), lengths, lengths, None))
    else:  # at an inside point the last one's MLP half is corrected by _close_block
        run.blocks += [Ran(1, lengths, lengths, own) for own in pairs]
    run.ran(x)
    run.done = stop
    return probe


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


def _close_block(run: TowerRun) -> None:
    """The MLP half of an interrupted block, on what survived."""
    x = run.tower.feed(run.done - 1, run.rows.x)
    run.ran(x)
    _tap(run, run.done - 1, x)
    run.blocks[-1] = run.blocks[-1]._replace(mlp=_lengths(run))


def _tap(run: TowerRun, block: int, x: Tensor) -> None:
    """Put what leaves a block, as its `rows`, into the tokens' `deep` where it is tapped."""
    if block in run.tower.taps:
        x = run.joined(x)
        deep = x if run.tokens.deep is None else torch.cat([run.tokens.deep, x], 2)
        run.tokens = run.tokens.changed(deep=deep)


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


def _lengths(run: TowerRun) -> list[int]:
    return [row.all for row in run.lengths]


def _beside(point: EncodePoint) -> bool:
    """Whether more than attention is wanted of a block."""
    return point.keys or point.values or point.logits


def _of_all(run: TowerRun, pairs: Tensor | None) -> Tensor | None:
    """[R] of all frames, nothing for those that are no row of the run."""
    if pairs is None or run.apart is None:
        return pairs
    index = upload(run.apart.rows, pairs.device)
    return pairs.new_zeros(len(run.lengths)).index_copy_(0, index, pairs)


def _tower_probe(engine: Engine, run: TowerRun, tokens: Tokens, point: EncodePoint, notes: set[str]) -> Probe:
    made = partial(
        Probe,
        want_keys=point.keys,
        want_values=point.values,
        want_logits=point.logits,
        single_head=point.single_head,
        clock=engine.clock,
    )
    if point.attention is None:
        return made(mode="keys")
    if point.attention == "cls" and run.tower.has_cls:
        rows = tokens.special.to(torch.uint8).argmax(1, keepdim=True)  # [R, 1]
        return made(mode="rows", rows=rows)
    if point.attention == "cls":
        notes.add(f"tower '{run.tower.name}' has no class token: mean attention received takes its attention's place")
    return made(mode="received", queries=tokens.valid if tokens.padded else None, peak=point.attention == "peak")


def _tower_attention(run: TowerRun, probe: Probe | None) -> Tensor | None:
    """[R, N]: class rows averaged over heads, or what the probe already averaged."""
    if probe is None or probe.attention is None:
        return None
    return run.joined(probe.attention if probe.mode == "received" else probe.attention.mean(1)[:, 0])


def _tower_mask(tokens: Tokens, proportional: bool) -> Tensor | None:
    """[R, 1, N, N] bool, valid keys; padding sees itself so that no row is empty. None when nothing is padded.

    With ``proportional`` and merged tokens, what is added to the logits instead: log(size), -inf for padding.
    """
    n = tokens.x.shape[1]
    seen = None
    if tokens.padded:
        itself = torch.eye(n, dtype=torch.bool, device=tokens.x.device)
        seen = (tokens.valid[:, None, :] | itself)[:, None]
    if not proportional or not tokens.merged:
        return seen
    bias = tokens.size.clamp(min=1).log().to(tokens.x.dtype)[:, None, None, :].expand(-1, -1, n, -1)
    return bias if seen is None else bias.masked_fill(~seen, -torch.inf)


def _encode_flops(runs: Mapping[str, TowerRun], frames: int, height: int, width: int) -> list[dict[str, int]]:
    """Per sample, the FLOPs of each tower."""
    rows = {f"encode.{name}": run.flops(height, width) for name, run in runs.items()}
    samples = len(next(iter(rows.values()))) // frames
    return [{name: sum(own[i * frames : (i + 1) * frames]) for name, own in rows.items()} for i in range(samples)]
