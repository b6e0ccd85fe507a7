"""From visual tokens and questions to the first logits, with pruning between layers.

What no question can influence runs once per image (`prefix`); the questions extend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.host import on_device, upload
from meteor_bench.core.model import Prompt
from meteor_bench.core.pick import rows_of
from meteor_bench.core.trace import SampleTrace
from meteor_bench.engine.decode_point import decide, decode_probe, peek
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import Visual
from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.engine.layer_loop import Placed, extend, run_layers, run_stream
from meteor_bench.engine.sequence import Segment, Stream, causal_mask, pad

__all__ = ["Prefix", "Start", "begin", "prefix"]


ROOM = 32  # tokens of an answer that a cache has room for from the start; few are longer, and it grows for those


@dataclass(frozen=True)
class Prefix:
    """Template head and visual tokens, run through the layers that no question can influence.

    Attributes:
        visual: with `tokens.x` as it enters layer ``start``; of width 0 where no layer is left.
        before: [B, P, D] hidden states of the template head at layer ``start``; likewise.
        cache: keys and values of the layers below ``start``.
        start: first layer that has not run.
    """

    visual: Visual
    before: Tensor
    cache: LayerCache
    start: int

    @property
    def width(self) -> int:
        """Slots of the cache that questions about an image share; 0 where all layers depend on the question."""
        return self.before.shape[1] + self.visual.tokens.x.shape[1] if self.start else 0


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
    ids = upload(before, vlm.device, torch.long).expand(batch, -1)
    head = vlm.decoder.embed(ids)
    cache = LayerCache(vlm.decoder.depth)
    if start == 0:
        return Prefix(visual, head, cache, 0)
    none = head[:, :0]
    empty = visual.tokens.valid[:, :0]
    stream = Stream(head, visual.tokens, none, empty, visual.layout, engine.positions, visual.table, [0] * batch)
    h = torch.cat([head, visual.tokens.x], 1)
    whole = start == vlm.decoder.depth
    with engine.clock.stage("prefill"):
        positions, mask = stream.positions(), causal_mask(stream.valid(), None, padded=stream.padded())
        rotary, placed = vlm.decoder.rotary(h, positions), Placed(head.shape[1], visual.tokens.deep)
        h = run_layers(engine, h, rotary, mask, 0, start - whole, cache, None, placed)
        if whole:  # nobody reads what comes out of the last layer here
            vlm.decoder.fill(start - 1, h, rotary, cache)
            h = h.new_empty(*h.shape[:2], 0)
    p = head.shape[1]
    entered = replace(visual, tokens=visual.tokens.with_x(h[:, p:]))
    return Prefix(entered, h[:, :p], cache, start)


def begin(
    engine: Engine,
    shared: Visual | Prefix,
    rows: Sequence[int],
    prompts: Sequence[Prompt],
    room: int,
    share: int = 1,
) -> Start:
    """Prefill a batch of questions; about ``room`` tokens will come.

    Args:
        share: so many questions, one after another, are about the same image each time and share what a `Prefix`
            holds of it, instead of a copy each.
    """
    with engine.clock.stage("prefill"):
        return _begin(engine, shared, rows, prompts, min(room, ROOM), share)


def _begin(
    engine: Engine, shared: Visual | Prefix, rows: Sequence[int], prompts: Sequence[Prompt], room: int, share: int
) -> Start:
    vlm = engine.vlm
    chosen = torch.tensor(rows, dtype=torch.long)
    index = on_device(chosen, vlm.device)
    visual = _rows(shared.visual if isinstance(shared, Prefix) else shared, rows, chosen, index)
    ids, text_valid = pad([p.after for p in prompts], vlm.device)
    text = vlm.decoder.embed(ids)
    if isinstance(shared, Prefix):
        head, shares = shared.before[index], _shares(engine, shared.start, share)
        needed = text.shape[1] + room
        cache = shared.cache.select([index[::s] for s in shares], [s * needed for s in shares], room)
    else:
        before = upload(prompts[0].before, vlm.device, torch.long)
        head = vlm.decoder.embed(before.expand(len(rows), -1))
        shares, cache = [], LayerCache(vlm.decoder.depth, slack=room)
    lengths = [len(p.after) for p in prompts]
    stream = Stream(head, visual.tokens, text, text_valid, visual.layout, engine.positions, visual.table, lengths)
    segments, last = _prefill(engine, stream, shares, cache, visual)
    logits = vlm.decoder.head(last)
    _count_prefill(
        engine, visual.traces, segments, cache, head.shape[1] + visual.specials, text_valid.shape[1], lengths
    )
    return Start(logits, segments, cache, visual.traces)


def _rows(visual: Visual, rows: Sequence[int], chosen: Tensor, index: Tensor) -> Visual:
    """The image of each question; nothing is copied where each has its own.

    Args:
        chosen, index: the rows on the CPU and on the model's device.
    """
    if list(rows) == list(range(len(visual.keys))):
        return replace(visual, traces=[trace.copy() for trace in visual.traces])
    return replace(
        visual,
        tokens=rows_of(visual.tokens, chosen),
        target=visual.target[chosen],
        keys=tuple(visual.keys[i] for i in rows),
        traces=[visual.traces[i].copy() for i in rows],
        memo={name: value[index] for name, value in visual.memo.items()},
    )


def _shares(engine: Engine, start: int, share: int) -> list[int]:
    """For each cached layer, how many questions share a row of it: where a method reads attention, none does."""
    shares = [share] * start
    points = engine.points.decode
    if start and points and points[0].before == start and points[0].reads_before:
        shares[-1] = 1
    return shares


def _prefill(
    engine: Engine, stream: Stream, shares: Sequence[int], cache: LayerCache, visual: Visual
) -> tuple[list[Segment], Tensor]:
    """Run the question (and what follows the first decode point) through all layers; [Q, D] last hidden states.

    Args:
        shares: for each layer whose cache holds what precedes the questions, how many of them share a row.
    """
    depth = engine.vlm.decoder.depth
    points = engine.points.decode
    stops = [point.before for point in points] + [depth]
    segments: list[Segment] = []
    memo = dict(visual.memo)
    at = 0
    for i, stop in enumerate(stops):
        probe = None
        if i < len(points):
            probe = decode_probe(stream, points[i], engine.clock, extending=at < len(shares))
        for share, layers in groupby(range(at, min(stop, len(shares))), shares.__getitem__):
            run = [*layers]
            at = run[-1] + 1
            stream = extend(engine, stream, run, share, cache, probe if at == stop else None, segments)
        if stop > at:
            segments.append(Segment(at, stop, stream.valid(), stream.following(), lengths=stream.lengths()))
            stream = run_stream(engine, stream, at, stop, cache, probe)
        at = stop
        if i < len(points):
            if points[i].peek:
                probe = peek(engine, stream, points[i])
            stream = decide(engine, stream, points[i], i, probe, visual, memo)
    if not stream.text_padded():
        return segments, stream.text[:, -1]
    last = upload([[n - 1] for n in stream.texts()], stream.text.device)
    return segments, take_rows(stream.text, last)[:, 0]


def _count_prefill(
    engine: Engine,
    traces: Sequence[SampleTrace],
    segments: Sequence[Segment],
    cache: LayerCache,
    head: int,
    width: int,
    texts: Sequence[int],
) -> None:
    """Counts per layer from the cache's own slots, and the FLOPs that a sample alone would take."""
    decoder = engine.vlm.decoder
    for i, trace in enumerate(traces):
        trace.text = head + texts[i]
        trace.llm, trace.cache, trace.padded, total = [], [], [], 0
        for segment in segments:
            lengths = segment.lengths
            visual = lengths[i] - trace.text
            for layer in range(segment.start, segment.stop):
                empty = segment.valid.shape[1] - lengths[i]
                trace.llm.append(visual)
                trace.cache.append(cache.width(layer) - empty - trace.text)
                trace.padded.append(cache.width(layer) - head - segment.share * width)
                total += decoder.flops_at(layer, lengths[i], lengths[i])
        trace.flops["prefill"] = total + decoder.flops_head(1)
