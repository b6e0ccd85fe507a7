"""From visual tokens and questions to the first logits, with pruning between layers.

What no question can influence runs once per image (`prefix`); the questions extend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meteor_bench.core.apply import rows_of
from meteor_bench.core.cache import LayerCache
from meteor_bench.core.decide import decide, decode_probe, peek
from meteor_bench.core.engine import Engine
from meteor_bench.core.fuse import Visual
from meteor_bench.core.probe import Probe
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
    empty = visual.tokens.valid[:, :0]
    stream = Stream(head, visual.tokens, none, empty, visual.layout, engine.positions, visual.table)
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
    visual = replace(
        visual,
        tokens=rows_of(visual.tokens, index),
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
    stream = Stream(head, visual.tokens, text, text_valid, visual.layout, engine.positions, visual.table)
    with engine.clock.stage("prefill"):
        segments, last = _prefill(engine, stream, start, cache, visual)
        logits = vlm.decoder.head(last)
    _count_prefill(engine, visual.traces, segments, cache, head.shape[1] + visual.specials, text_valid)
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
            probe = decode_probe(stream, points[i], engine.clock, extending=at < start)
        if stop > at:
            segments.append(Segment(at, stop, stream.valid(), stream.following()))
            stream, probe = _run_stream(engine, stream, at, stop, cache, probe, extending=at < start)
        at = stop
        if i < len(points):
            if points[i].peek:
                probe = peek(engine, stream, points[i])
            stream = decide(engine, stream, points[i], i, probe, visual, memo)
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
