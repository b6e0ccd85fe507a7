"""From the encoders' outputs to the visual tokens that the language model gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.cells import densify
from meteor_bench.core.host import on_device
from meteor_bench.core.join import concat
from meteor_bench.core.model import VLM, Prompt
from meteor_bench.core.pick import rows_of
from meteor_bench.core.pruner import FuseView, Layout
from meteor_bench.core.tokens import Grid, Later, LaterEach, Tokens, worked_out
from meteor_bench.core.trace import SampleTrace
from meteor_bench.core.visual_block import arrange
from meteor_bench.engine.encode import Towered
from meteor_bench.engine.engine import Engine, Generators
from meteor_bench.engine.sequence import pad

__all__ = ["Visual", "embed_questions", "fuse"]


@dataclass(frozen=True)
class Visual:
    """Visual tokens as the language model gets them.

    Attributes:
        tokens: [B, N, D_llm]; origins count through the unpruned layout.
        layout: what the unpruned visual block adds to the position ids behind it.
        table: [L] or [L, A] position ids of its slots, see `Block`; None: the slot's own index.
        specials: newlines and separators in it.
        shape: the towers' grids, for views.
        target: [B] on the CPU, the budget after the last pruning point.
        traces: counts so far, one per sample.
        memo: what the method left at its encode points, [B, frames, ...] each.
    """

    tokens: Tokens
    layout: int
    shape: Layout
    target: Tensor
    keys: tuple[str, ...]
    traces: list[SampleTrace]
    memo: dict[str, Tensor] = field(default_factory=dict)
    table: Tensor | None = None
    specials: int = 0


def embed_questions(engine: Engine, prompts: Sequence[Prompt]) -> Tensor | None:
    """[Q, T, D] embeddings of what follows the image, zero rows for padding; None where the method needs none."""
    if engine.points.fuse is None or not engine.points.fuse.text:
        return None
    ids, valid = pad([prompt.after for prompt in prompts], engine.vlm.device)
    return engine.vlm.decoder.embed(ids) * valid[..., None]


def fuse(engine: Engine, towered: Towered, rows: Sequence[int] | None = None, text: Tensor | None = None) -> Visual:
    """Project, let the method choose, concatenate.

    Args:
        rows: samples to take (repeats allowed), all by default.
        text: `embed_questions` of as many questions, for a method whose fuse point needs them.
    """
    if rows is not None:
        chosen = torch.tensor(rows, dtype=torch.long)
        index = on_device(chosen, engine.vlm.device)
        towered = replace(
            towered,
            tokens={name: rows_of(t, chosen) for name, t in towered.tokens.items()},
            counts={name: c[chosen] for name, c in towered.counts.items()},
            scores=towered.scores.each(lambda score: score[index]),
            keys=tuple(towered.keys[i] for i in rows),
            flops=[dict(towered.flops[i]) for i in rows],
            memo={name: value[index] for name, value in towered.memo.items()},
        )
    vlm = engine.vlm.at(towered.scene)
    grids = {name: t.grid for name, t in towered.tokens.items()}
    with engine.clock.stage("fuse"):
        if vlm.fusion.kind == "shared":
            tokens, projected = _fuse_shared(engine, vlm, towered, text)
        else:
            tokens, projected = _fuse_independent(engine, vlm, towered, text)
        block = None if vlm.block is None else vlm.block(tokens.grid)
    engine.record("fuse", 0, "fused", tokens)
    reference = vlm.reference(towered.grid)
    total = engine.budget.tokens(reference)
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
                flops={**towered.flops[i], "fuse": vlm.fusion.flops_align(grids) + vlm.fusion.flops(per_tower)},
                notes=towered.notes,
            )
        )
    return Visual(
        tokens=tokens if block is None else arrange(tokens, block),
        layout=tokens.grid.n if block is None else block.span or block.length,
        shape=engine.layout(grids, _cells(vlm, grids), framed=towered.scene.framed),
        target=torch.full((len(towered.keys),), total),
        keys=towered.keys,
        traces=traces,
        memo=towered.memo,
        table=None if block is None else block.positions,
        specials=0 if block is None else len(block.special_slots),
    )


def _cells(vlm: VLM, grids: Mapping[str, Grid]) -> Mapping[str, Tensor]:
    return vlm.fusion.cells(grids) if vlm.fusion.kind == "shared" else {}


def _fuse_view(
    engine: Engine, vlm: VLM, towered: Towered, tokens: Tokens, tower: str, text: Tensor | None, **more: Any
) -> FuseView:
    reference, grids = vlm.reference(towered.grid), {name: t.grid for name, t in towered.tokens.items()}
    rows = (len(towered.keys),)
    return FuseView(
        tokens=tokens,
        target=torch.full(rows, engine.budget.tokens(reference)),
        reference=torch.full(rows, reference),
        keep=engine.budget.keep,
        layout=engine.layout(grids, _cells(vlm, grids), framed=towered.scene.framed),
        text=text,
        generators=Generators(engine.seed, towered.keys, f"fuse.{tower}"),
        tower=tower,
        groups=LaterEach({name: Later(partial(worked_out, t.raw("group"))) for name, t in towered.tokens.items()}),
        left=towered.counts,
        scores=towered.scores,
        whole=towered.whole,
        facts=engine.facts,
        **more,
    )


def _fuse_independent(
    engine: Engine, vlm: VLM, towered: Towered, text: Tensor | None
) -> tuple[Tokens, dict[str, list[int]]]:
    fusion = vlm.fusion
    counts = {name: t.counts().tolist() for name, t in towered.tokens.items()}
    parts = {name: fusion.project(t, name) for name, t in towered.tokens.items()}
    if engine.points.fuse is not None:
        views = {name: _fuse_view(engine, vlm, towered, t, name, text) for name, t in parts.items()}
        decisions = engine.ask(views, engine.pruner.fuse)
        with engine.clock.stage("prune"):
            parts = {name: apply(t, decisions[name]) if name in decisions else t for name, t in parts.items()}
        for name in decisions:
            engine.watch.after(f"fuse point (tower '{name}')", views[name].tokens, decisions[name], parts[name])
    return concat([fusion.place(t, name) for name, t in parts.items()]), counts


def _fuse_shared(
    engine: Engine, vlm: VLM, towered: Towered, text: Tensor | None
) -> tuple[Tokens, dict[str, list[int]]]:
    fusion, point = vlm.fusion, engine.points.fuse
    grids = {name: t.grid for name, t in towered.tokens.items()}
    aligned = fusion.align({name: densify(t) for name, t in towered.tokens.items()}, grids)
    tokens = Tokens.dense(aligned, fusion.common(grids))
    if point is None or not point.features:
        counts = {"fused": tokens.counts().tolist()}
        tokens = fusion.project(tokens)
    if point is not None:
        with engine.clock.stage("prune"):
            partials = fusion.partials(aligned) if point.partial else {}
        views = {"fused": _fuse_view(engine, vlm, towered, tokens, "fused", text, partials=partials)}
        decisions = engine.ask(views, engine.pruner.fuse)
        if "fused" in decisions:
            with engine.clock.stage("prune"):
                tokens = apply(tokens, decisions["fused"])
            engine.watch.after("fuse point (the fused tokens)", views["fused"].tokens, decisions["fused"], tokens)
        if point.features:
            counts = {"fused": tokens.counts().tolist()}
            tokens = fusion.project(tokens)
    return fusion.place(tokens), counts
