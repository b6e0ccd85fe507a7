"""A decode point: the method looks at the visual tokens between two layers of the language model and decides."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.clock import Clock
from meteor_bench.core.decisions import asked_one
from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import upload
from meteor_bench.core.pruner import DecodePoint, DecodeView
from meteor_bench.core.tokens import Tokens
from meteor_bench.core.visual_block import split, with_specials
from meteor_bench.engine.engine import (
    Engine,
    Generators,
)
from meteor_bench.engine.fuse import Visual
from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.engine.sequence import (
    Stream,
    causal_mask,
)

__all__ = ["decide", "decode_probe", "peek"]


def decode_probe(stream: Stream, point: DecodePoint, clock: Clock, *, extending: bool) -> Probe | None:
    """The attention rows that a decode point wants from the layer before it."""
    return _reading(stream, point, clock, extending=extending) if point.reads_before else None


def _reading(stream: Stream, point: DecodePoint, clock: Clock | None, *, extending: bool) -> Probe | None:
    """A probe for the rows and keys that a decode point wants, whatever layer is read."""
    if point.attention is None and not point.keys:
        return None
    offset = 0 if extending else stream.before.shape[1] + stream.visual.x.shape[1]
    if point.attention is None:
        return Probe(mode="keys", want_keys=True, heads="concat", clock=clock)
    rows, last = None, stream.text.shape[1]
    if point.attention == "last":
        last = 1
        if stream.text_padded():
            rows = upload([[offset + n - 1] for n in stream.texts()], stream.text.device)  # [Q, 1]
    return Probe(mode="rows", rows=rows, last=last, want_keys=point.keys, heads="concat", clock=clock)


def peek(engine: Engine, stream: Stream, point: DecodePoint) -> Probe | None:
    """What a decode point wants, read from the layer that comes next."""
    decoder = engine.vlm.decoder
    probe = _reading(stream, point, None, extending=False)  # all of this is pruning
    with engine.clock.stage("prune"):
        h = torch.cat([stream.before, stream.visual.x, stream.text], 1)
        rotary = stream.rotary or decoder.rotary(h, stream.positions())
        mask = causal_mask(stream.valid(), None) if stream.padded() else None
        decoder.peek(point.before, h, rotary, mask, probe, LayerCache(decoder.depth))
    return probe


def _rope_bias(engine: Engine, stream: Stream) -> Tensor:
    """[L] `DecodeView.rope` for every distance within the stream."""
    length = stream.before.shape[1] + max(stream.layout, stream.visual.grid.n) + stream.text.shape[1]
    distance = torch.arange(length, device=stream.text.device)[None]
    cos, _ = engine.vlm.decoder.rotary(stream.text[:1, :1].float(), distance)  # [1, L, d], each frequency twice
    bias: Tensor = cos[0].sum(-1) / cos.shape[-1] ** 0.5
    return bias


class _Seen(NamedTuple):
    """What a decode point is about.

    Attributes:
        visual: [Q, N] the visual tokens alone.
        special: the newlines and separators between them, None where there are none.
        attention: [Q, H, R, N]; keys: [Q, N, Dk]; text_keys: [Q, T, Dk].
    """

    visual: Tokens
    special: Tokens | None
    attention: Tensor | None
    keys: Tensor | None
    text_keys: Tensor | None


def _seen(stream: Stream, point: DecodePoint, probe: Probe | None) -> _Seen:
    """The stream and what the probe read, cut to what a method may look at."""
    p, n = stream.before.shape[1], stream.visual.x.shape[1]
    attention = keys = text_keys = None
    padded = stream.text_padded()
    if probe is not None and probe.attention is not None:
        attention = probe.attention[..., p : p + n]
        if point.attention == "text" and padded:
            attention = attention * stream.text_valid[:, None, :, None]
    if probe is not None and probe.keys is not None:
        keys, text_keys = probe.keys[:, p : p + n], probe.keys[:, p + n :]
        text_keys = text_keys * stream.text_valid[..., None] if padded else text_keys
    if stream.visual.slot is None:
        return _Seen(stream.visual, None, attention, keys, text_keys)
    index, visual, special = split(stream.visual)
    if attention is not None:
        columns = index[:, None, None].expand(*attention.shape[:3], -1)
        attention = attention.gather(3, columns) * visual.valid[:, None, None]
    if keys is not None:
        keys = take_rows(keys, index)
    return _Seen(visual, special, attention, keys, text_keys)


def decide(
    engine: Engine,
    stream: Stream,
    point: DecodePoint,
    index: int,
    probe: Probe | None,
    visual: Visual,
    memo: dict[str, Tensor],
) -> Stream:
    """Show the visual tokens to the method and apply its decision; ``memo`` is added to."""
    with engine.clock.stage("prune"):
        seen = _seen(stream, point, probe)
        x, text = seen.visual.x, stream.text
        if point.normed:
            x, text = engine.vlm.decoder.norm(x), engine.vlm.decoder.norm(text)
        view = DecodeView(
            tokens=seen.visual.with_x(x),
            target=visual.target,
            attention=seen.attention,
            keys=seen.keys,
            text=text * stream.text_valid[..., None] if stream.text_padded() else text,
            text_valid=stream.text_valid,
            text_keys=seen.text_keys,
            rope=_rope_bias(engine, stream) if point.rope else None,
            memo=dict(memo),
            generators=Generators(engine.seed, visual.keys, f"decode.{index}"),
            tower="llm",
            layer=point.before,
            point=index,
            facts=engine.facts,
            reference=torch.tensor([t.reference for t in visual.traces]),
            keep=engine.budget.keep,
            layout=visual.shape,
            layers=tuple(p.before for p in engine.points.decode),
        )
        if engine.observer is not None and engine.observer(view):
            return stream
        engine.watch.before([view])
        decision = asked_one(engine.pruner, view, engine.pruner.decode)
        memo.update(decision.memo)
        left = apply(seen.visual, decision)
        engine.watch.after(f"decode point {index} (before layer {point.before})", seen.visual, decision, left)
        left = left if seen.special is None else with_specials(left, seen.special)
    engine.record("decode", index, "llm", left)
    return replace(stream, visual=left, rotary=None)
