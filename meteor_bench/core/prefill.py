"""From visual tokens and questions to the first logits, with pruning between layers.

What no question can influence runs once per image (`prefix`); the questions extend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meteor_bench.core.apply import apply, rows_of
from meteor_bench.core.cache import LayerCache
from meteor_bench.core.clock import Clock
from meteor_bench.core.engine import Engine, seeded
from meteor_bench.core.fuse import Visual
from meteor_bench.core.probe import Probe
from meteor_bench.core.pruner import DecodePoint, View
from meteor_bench.core.stream import Segment, Stream, causal_mask, pad
from meteor_bench.core.trace import SampleTrace
from meteor_bench.models.base import Prompt

__all__ = ["Prefix", "Start", "begin", "prefix"]


@dataclass(frozen=True)
class Prefix:
    """Template head and visual tokens, run through the layers that no question can influence.

    Attributes:
        visual: with `tokens.x` as it enters layer ``start``.
        before: [B, P, D] hidden states of the template head at layer ``start``.
        cache: keys and values of the layers below ``start``.
        start: first layer that has not run.
    """

    visual: Visual
    before: Tensor
    cache: LayerCache
    start: int


@dataclass(frozen=True)
class Start:
    """A batch after its prefill."""

    logits: Tensor
    segments: list[Segment]
    cache: LayerCache
    traces: list[SampleTrace]


def prefix(engine: Engine, visual: Visual, before: tuple[int, ...]) -> Prefix:
    """Run what the questions of an image share."""
    vlm = engine.vlm
    first = engine.points.text_layer
    start = vlm.decoder.depth if first is None else first
    batch = len(visual.keys)
    ids = torch.tensor(before, device=vlm.device).expand(batch, -1)
    head = vlm.decoder.embed(ids)
    cache = LayerCache(vlm.decoder.depth)
    if start == 0:
        return Prefix(visual, head, cache, 0)
    none = head[:, :0]
    stream = Stream(head, visual.tokens, none, visual.tokens.valid[:, :0], visual.layout, engine.positions)
    h = torch.cat([head, visual.tokens.x], 1)
    with engine.clock.stage("prefill"):
        h, _ = _run(engine, h, stream.positions(), stream.valid(), None, 0, start, cache, None)
    p = head.shape[1]
    entered = replace(visual, tokens=visual.tokens.with_x(h[:, p:]))
    return Prefix(entered, h[:, :p], cache, start)


def begin(engine: Engine, shared: Visual | Prefix, rows: Sequence[int], prompts: Sequence[Prompt], room: int) -> Start:
    """Prefill a batch of questions, with ``room`` for that many tokens to come."""
    vlm = engine.vlm
    index = torch.tensor(rows, device=vlm.device)
    visual = shared.visual if isinstance(shared, Prefix) else shared
    ids, text_valid = pad([p.after for p in prompts], vlm.device)
    text = vlm.decoder.embed(ids)
    visual = Visual(
        tokens=rows_of(visual.tokens, index),
        layout=visual.layout,
        shape=visual.shape,
        target=visual.target[index],
        keys=tuple(visual.keys[i] for i in rows),
        traces=[deepcopy(visual.traces[i]) for i in rows],
        memo={name: value[index] for name, value in visual.memo.items()},
    )
    if isinstance(shared, Prefix):
        head, start = shared.before[index], shared.start
        cache = shared.cache.select(index, text.shape[1] + room)
    else:
        head = vlm.decoder.embed(torch.tensor(prompts[0].before, device=vlm.device).expand(len(rows), -1))
        start, cache = 0, LayerCache(vlm.decoder.depth, slack=room)
    stream = Stream(head, visual.tokens, text, text_valid, visual.layout, engine.positions)
    with engine.clock.stage("prefill"):
        segments, last = _prefill(engine, stream, start, cache, visual)
        logits = vlm.decoder.head(last)
    _count_prefill(engine, visual.traces, segments, cache, head.shape[1], text_valid)
    return Start(logits, segments, cache, visual.traces)


def _prefill(
    engine: Engine, stream: Stream, start: int, cache: LayerCache, visual: Visual
) -> tuple[list[Segment], Tensor]:
    """Run the question (and what follows the first decode point) through all layers; [Q, D] last hidden states."""
    depth = engine.vlm.decoder.depth
    points = engine.points.decode
    stops = [point.before for point in points] + [depth]
    segments: list[Segment] = []
    memo = dict(visual.memo)
    at = 0
    for i, stop in enumerate(stops):
        probe = None
        if i < len(points):
            probe = _decode_probe(stream, points[i], engine.clock, extending=at < start)
        if stop > at:
            segments.append(Segment(at, stop, stream.valid(), stream.following()))
            stream, probe = _run_stream(engine, stream, at, stop, cache, probe, extending=at < start)
        at = stop
        if i < len(points):
            if points[i].peek:
                probe = _peek(engine, stream, points[i])
            stream = _decide(engine, stream, points[i], i, probe, visual, memo)
    index = (stream.text_valid.sum(1) - 1)[:, None, None].expand(-1, 1, stream.text.shape[-1])
    return segments, stream.text.gather(1, index)[:, 0]


def _run_stream(
    engine: Engine, stream: Stream, start: int, stop: int, cache: LayerCache, probe: Probe | None, *, extending: bool
) -> tuple[Stream, Probe | None]:
    """Run layers on the whole stream, or (``extending``) on the question alone over a cached prefix."""
    p, n = stream.before.shape[1], stream.visual.x.shape[1]
    valid, positions = stream.valid(), stream.positions()
    if extending:
        h, probe = _run(
            engine, stream.text, positions[:, p + n :], valid[:, p + n :], valid[:, : p + n], start, stop, cache, probe
        )
        return replace(stream, text=h), probe
    h = torch.cat([stream.before, stream.visual.x, stream.text], 1)
    h, probe = _run(engine, h, positions, valid, None, start, stop, cache, probe)
    return (
        replace(stream, before=h[:, :p], visual=stream.visual.with_x(h[:, p : p + n]), text=h[:, p + n :]),
        probe,
    )


def _decode_probe(stream: Stream, point: DecodePoint, clock: Clock, *, extending: bool) -> Probe | None:
    """The attention rows that a decode point wants from the layer before it."""
    if point.before == 0 or point.peek:
        return None
    return _reading(stream, point, clock, extending=extending)


def _reading(stream: Stream, point: DecodePoint, clock: Clock | None, *, extending: bool) -> Probe | None:
    """A probe for the rows and keys that a decode point wants, whatever layer is read."""
    if point.attention is None and not point.keys:
        return None
    offset = 0 if extending else stream.before.shape[1] + stream.visual.x.shape[1]
    if point.attention is None:
        return Probe(mode="keys", want_keys=True, heads="concat", clock=clock)
    if point.attention == "last":
        rows = offset + stream.text_valid.sum(1, keepdim=True) - 1  # [Q, 1]
    else:
        width = stream.text.shape[1]
        rows = offset + torch.arange(width, device=stream.text.device).expand(len(stream.text), -1)
    return Probe(mode="rows", rows=rows, want_keys=point.keys, heads="concat", clock=clock)


def _peek(engine: Engine, stream: Stream, point: DecodePoint) -> Probe | None:
    """What a decode point wants, read from the layer that comes next."""
    decoder = engine.vlm.decoder
    probe = _reading(stream, point, None, extending=False)  # all of this is pruning
    with engine.clock.stage("prune"):
        h = torch.cat([stream.before, stream.visual.x, stream.text], 1)
        rotary = decoder.rotary(h, stream.positions())
        decoder.peek(point.before, h, rotary, causal_mask(stream.valid(), None), probe)
    return probe


def _rope_bias(engine: Engine, stream: Stream) -> Tensor:
    """[L] `View.rope` for every distance within the stream."""
    length = stream.before.shape[1] + stream.layout + stream.text.shape[1]
    distance = torch.arange(length, device=stream.text.device)[None]
    cos, _ = engine.vlm.decoder.rotary(stream.text[:1, :1].float(), distance)  # [1, L, d], each frequency twice
    bias: Tensor = cos[0].sum(-1) / cos.shape[-1] ** 0.5
    return bias


def _decide(
    engine: Engine,
    stream: Stream,
    point: DecodePoint,
    index: int,
    probe: Probe | None,
    visual: Visual,
    memo: dict[str, Tensor],
) -> Stream:
    """Show the visual tokens to the method and apply its decision; ``memo`` is added to."""
    p, n = stream.before.shape[1], stream.visual.x.shape[1]
    attention = None
    if probe is not None and probe.attention is not None:
        attention = probe.attention[..., p : p + n]  # [Q, H, R, N]
        if point.attention == "text":
            attention = attention * stream.text_valid[:, None, :, None]
    keys = None if probe is None else probe.keys
    with engine.clock.stage("prune"):
        x, text = stream.visual.x, stream.text
        if point.normed:
            x, text = engine.vlm.decoder.norm(x), engine.vlm.decoder.norm(text)
        view = View(
            tokens=stream.visual.with_x(x),
            target=visual.target,
            attention=attention,
            keys=None if keys is None else keys[:, p : p + n],
            text=text * stream.text_valid[..., None],
            text_valid=stream.text_valid,
            text_keys=None if keys is None else keys[:, p + n :] * stream.text_valid[..., None],
            rope=_rope_bias(engine, stream) if point.rope else None,
            memo=dict(memo),
            generators=tuple(seeded(engine.seed, key, f"decode.{index}") for key in visual.keys),
            tower="llm",
            layer=point.before,
            point=index,
            facts=engine.facts,
            reference=torch.tensor([t.reference for t in visual.traces], device=visual.target.device),
            keep=engine.budget.keep,
            layout=visual.shape,
            layers=tuple(p.before for p in engine.points.decode),
        )
        if engine.observer is not None and engine.observer("decode", view):
            return stream
        decision = engine.pruner.decode(view)
        memo.update(decision.memo)
        left = apply(stream.visual, decision)
    engine.record("decode", index, "llm", left)
    return replace(stream, visual=left)


def _run(
    engine: Engine,
    h: Tensor,
    positions: Tensor,
    valid: Tensor,
    cached: Tensor | None,
    start: int,
    stop: int,
    cache: LayerCache,
    probe: Probe | None,
) -> tuple[Tensor, Probe | None]:
    """The one layer loop. The probe, if any, reads the last layer of the range.

    Args:
        h: [Q, T, D]; positions, valid: [Q, T]; cached: [Q, K] validity of the slots already cached.
    """
    decoder = engine.vlm.decoder
    mask = causal_mask(valid, cached)
    rotary = decoder.rotary(h, positions)
    for layer in range(start, stop):
        h = decoder.layer(layer, h, rotary, mask, cache, probe if layer == stop - 1 else None)
    return h, probe


def _count_prefill(
    engine: Engine,
    traces: Sequence[SampleTrace],
    segments: Sequence[Segment],
    cache: LayerCache,
    head: int,
    text_valid: Tensor,
) -> None:
    """Counts per layer from the cache's own slots, and the FLOPs that a sample alone would take."""
    decoder = engine.vlm.decoder
    texts = text_valid.sum(1).tolist()
    held = [(s, (s.valid.sum(1)).tolist()) for s in segments]
    for i, trace in enumerate(traces):
        trace.text = head + texts[i]
        trace.llm, trace.cache, trace.padded, total = [], [], [], 0
        for segment, lengths in held:
            visual = lengths[i] - trace.text
            for layer in range(segment.start, segment.stop):
                empty = segment.valid.shape[1] - lengths[i]
                trace.llm.append(visual)
                trace.cache.append(cache.width(layer) - empty - trace.text)
                trace.padded.append(cache.width(layer) - head - text_valid.shape[1])
            total += (segment.stop - segment.start) * decoder.flops_layer(lengths[i], lengths[i])
        trace.flops["prefill"] = total + decoder.flops_head(1)
