"""The language-model half: prefill with pruning between layers, then a greedy loop of our own.

The library's `generate` reads the cache's length from layer 0 and so cannot follow a pruned sequence. Causality here
is by slot: a query sees the valid slots up to its own, wherever the padding lies. Positions are carried separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.apply import apply, rows_of
from meteor_bench.core.cache import LayerCache
from meteor_bench.core.engine import Engine, Visual, seeded
from meteor_bench.core.probe import Probe
from meteor_bench.core.pruner import DecodePoint, View
from meteor_bench.core.tokens import Tokens
from meteor_bench.core.trace import SampleTrace
from meteor_bench.models.base import Prompt

__all__ = ["Generation", "Likelihood", "Prefix", "answer", "prefix", "score"]


@dataclass(frozen=True)
class Generation:
    """One answer: its token ids (end token left out) and what was counted on the way."""

    ids: tuple[int, ...]
    trace: SampleTrace


class Likelihood(NamedTuple):
    """Negative log-likelihood (nats) of a continuation, and whether greedy decoding gives it."""

    loss: float
    greedy: bool


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


@dataclass
class _Segment:
    """Consecutive layers that hold the same tokens.

    Attributes:
        valid: [Q, K] bool, which cache slots of these layers hold a token.
        next: [Q] position id of the next token.
    """

    start: int
    stop: int
    valid: Tensor
    next: Tensor


@dataclass
class _Stream:
    """The sequence between two pruning points: [head | visual | question], each part padded on its own."""

    before: Tensor  # [Q, P, D]
    visual: Tokens  # [Q, N]
    text: Tensor  # [Q, T, D]
    text_valid: Tensor  # [Q, T]
    layout: int
    policy: str

    def valid(self) -> Tensor:
        """[Q, P + N + T] bool."""
        head = torch.ones(self.before.shape[:2], dtype=torch.bool, device=self.before.device)
        return torch.cat([head, self.visual.valid, self.text_valid], 1)

    def positions(self) -> Tensor:
        """[Q, P + N + T] position ids under the policy; padding gets 0."""
        q, p = self.before.shape[:2]
        device = self.before.device
        head = torch.arange(p, device=device).expand(q, p)
        if self.policy == "keep":
            visual = p + self.visual.origin
            start = torch.full((q, 1), p + self.layout, device=device)
        else:
            visual = p + self.visual.valid.long().cumsum(1) - 1
            start = p + self.visual.counts()[:, None]
        visual = visual.masked_fill(~self.visual.valid, 0)
        text = start + torch.arange(self.text.shape[1], device=device)
        return torch.cat([head, visual, text], 1)

    def following(self) -> Tensor:
        """[Q] position id of the first generated token."""
        p = self.before.shape[1]
        used = self.text_valid.sum(1)
        spaced = self.visual.counts() if self.policy != "keep" else torch.full_like(used, self.layout)
        return p + spaced + used


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
    stream = _Stream(head, visual.tokens, none, visual.tokens.valid[:, :0], visual.layout, engine.positions)
    h = torch.cat([head, visual.tokens.x], 1)
    with engine.clock.stage("prefill"):
        h, _ = _run(engine, h, stream.positions(), stream.valid(), None, 0, start, cache, None)
    p = head.shape[1]
    entered = replace(visual, tokens=visual.tokens.with_x(h[:, p:]))
    return Prefix(entered, h[:, :p], cache, start)


def answer(
    engine: Engine,
    shared: Visual | Prefix,
    rows: Sequence[int],
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    *,
    ignore_eos: bool = False,
) -> list[Generation]:
    """Answer a batch of questions greedily.

    Args:
        shared: a `Prefix` extends what is cached; a `Visual` runs everything in one pass.
        rows: which image each question is about.
        prompts: one per question; their template heads must be equal.
        max_new_tokens: answers end there, or at an end token.
        ignore_eos: generate exactly ``max_new_tokens``, for latency runs.
    """
    vlm, clock = engine.vlm, engine.clock
    start = _begin(engine, shared, rows, prompts, max_new_tokens)
    with clock.stage("decode"):
        answers = _greedy(engine, start.logits, start.segments, start.cache, max_new_tokens, ignore_eos)
    for trace, out in zip(start.traces, answers, strict=True):
        _count_decode(engine, trace, len(out))
    eos = vlm.processor.eos
    ended = [out[:-1] if out and out[-1] in eos and not ignore_eos else out for out in answers]
    return [Generation(tuple(out), trace) for out, trace in zip(ended, start.traces, strict=True)]


def score(
    engine: Engine,
    shared: Visual | Prefix,
    rows: Sequence[int],
    prompts: Sequence[Prompt],
    continuations: Sequence[Sequence[int]],
) -> list[Likelihood]:
    """How likely given answers are; arguments as for `answer`, one continuation (ids, not empty) per question."""
    start = _begin(engine, shared, rows, prompts, max(len(c) for c in continuations))
    return _forced(engine, start.logits, start.segments, start.cache, continuations)


@dataclass(frozen=True)
class _Start:
    """A batch after its prefill."""

    logits: Tensor
    segments: list[_Segment]
    cache: LayerCache
    traces: list[SampleTrace]


def _begin(
    engine: Engine, shared: Visual | Prefix, rows: Sequence[int], prompts: Sequence[Prompt], room: int
) -> _Start:
    """Prefill a batch of questions, with ``room`` for that many tokens to come."""
    vlm = engine.vlm
    index = torch.tensor(rows, device=vlm.device)
    visual = shared.visual if isinstance(shared, Prefix) else shared
    ids, text_valid = _pad([p.after for p in prompts], vlm.device)
    text = vlm.decoder.embed(ids)
    visual = Visual(
        tokens=rows_of(visual.tokens, index),
        layout=visual.layout,
        shape=visual.shape,
        target=visual.target[index],
        keys=tuple(visual.keys[i] for i in rows),
        traces=[deepcopy(visual.traces[i]) for i in rows],
    )
    if isinstance(shared, Prefix):
        head, start = shared.before[index], shared.start
        cache = shared.cache.select(index, text.shape[1] + room)
    else:
        head = vlm.decoder.embed(torch.tensor(prompts[0].before, device=vlm.device).expand(len(rows), -1))
        start, cache = 0, LayerCache(vlm.decoder.depth, slack=room)
    stream = _Stream(head, visual.tokens, text, text_valid, visual.layout, engine.positions)
    with engine.clock.stage("prefill"):
        segments, last = _prefill(engine, stream, start, cache, visual)
        logits = vlm.decoder.head(last)
    _count_prefill(engine, visual.traces, segments, cache, head.shape[1], text_valid)
    return _Start(logits, segments, cache, visual.traces)


def _pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids [Q, T] padded on the right with 0, and their validity."""
    width = max(len(s) for s in sequences)
    ids = torch.tensor([[*s, *[0] * (width - len(s))] for s in sequences], device=device)
    lengths = torch.tensor([len(s) for s in sequences], device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]


def _prefill(
    engine: Engine, stream: _Stream, start: int, cache: LayerCache, visual: Visual
) -> tuple[list[_Segment], Tensor]:
    """Run the question (and what follows the first decode point) through all layers; [Q, D] last hidden states."""
    depth = engine.vlm.decoder.depth
    points = engine.points.decode
    stops = [point.before for point in points] + [depth]
    segments: list[_Segment] = []
    at = 0
    for i, stop in enumerate(stops):
        probe = _decode_probe(stream, points[i], extending=at < start) if i < len(points) else None
        if stop > at:
            segments.append(_Segment(at, stop, stream.valid(), stream.following()))
            stream, probe = _run_stream(engine, stream, at, stop, cache, probe, extending=at < start)
        at = stop
        if i < len(points):
            stream = _decide(engine, stream, points[i], i, probe, visual)
    index = (stream.text_valid.sum(1) - 1)[:, None, None].expand(-1, 1, stream.text.shape[-1])
    return segments, stream.text.gather(1, index)[:, 0]


def _run_stream(
    engine: Engine, stream: _Stream, start: int, stop: int, cache: LayerCache, probe: Probe | None, *, extending: bool
) -> tuple[_Stream, Probe | None]:
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


def _decode_probe(stream: _Stream, point: DecodePoint, *, extending: bool) -> Probe | None:
    """The attention rows that a decode point wants from the layer before it."""
    if point.before == 0 or (point.attention is None and not point.keys):
        return None
    offset = 0 if extending else stream.before.shape[1] + stream.visual.x.shape[1]
    if point.attention is None:
        return Probe(mode="keys", want_keys=True)
    if point.attention == "last":
        rows = offset + stream.text_valid.sum(1, keepdim=True) - 1  # [Q, 1]
    else:
        width = stream.text.shape[1]
        rows = offset + torch.arange(width, device=stream.text.device).expand(len(stream.text), -1)
    return Probe(mode="rows", rows=rows, want_keys=point.keys)


def _decide(
    engine: Engine,
    stream: _Stream,
    point: DecodePoint,
    index: int,
    probe: Probe | None,
    visual: Visual,
) -> _Stream:
    """Show the visual tokens to the method and apply its decision."""
    p, n = stream.before.shape[1], stream.visual.x.shape[1]
    attention = None
    if probe is not None and probe.attention is not None:
        attention = probe.attention[..., p : p + n]  # [Q, H, R, N]
        if point.attention == "text":
            attention = attention * stream.text_valid[:, None, :, None]
    with engine.clock.stage("prune"):
        view = View(
            tokens=stream.visual,
            target=visual.target,
            attention=attention,
            keys=None if probe is None or probe.keys is None else probe.keys[:, p : p + n],
            text=stream.text * stream.text_valid[..., None],
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
        return replace(stream, visual=apply(stream.visual, engine.pruner.decode(view)))


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
    mask = _mask(valid, cached)
    rotary = decoder.rotary(h, positions)
    for layer in range(start, stop):
        h = decoder.layer(layer, h, rotary, mask, cache, probe if layer == stop - 1 else None)
    return h, probe


def _mask(valid: Tensor, cached: Tensor | None) -> Tensor | None:
    """[Q, 1, T, K + T] bool; None where plain causal attention without padding says the same."""
    if cached is None or cached.shape[1] == 0:
        if bool(valid.all()):
            return None
        cached = valid[:, :0]
    q, t = valid.shape
    past = cached.shape[1]
    causal = torch.ones(t, past + t, dtype=torch.bool, device=valid.device).tril(past)
    seen = torch.cat([cached, valid], 1)[:, None, :] & causal
    seen |= torch.eye(t, past + t, dtype=torch.bool, device=valid.device).roll(past, 1)
    return seen[:, None]


def _step(engine: Engine, chosen: Tensor, segments: list[_Segment], cache: LayerCache, holes: list[bool]) -> Tensor:
    """Feed one token [Q] to every row; logits [Q, V] of the next."""
    decoder = engine.vlm.decoder
    h = decoder.embed(chosen[:, None])
    for segment, has_holes in zip(segments, holes, strict=True):
        segment.valid = torch.cat([segment.valid, torch.ones_like(segment.valid[:, :1])], 1)
        rotary = decoder.rotary(h, segment.next[:, None])
        mask = segment.valid[:, None, None, :] if has_holes else None
        for layer in range(segment.start, segment.stop):
            h = decoder.layer(layer, h, rotary, mask, cache, None)
        segment.next = segment.next + 1
    return decoder.head(h[:, 0])


def _greedy(
    engine: Engine,
    logits: Tensor,
    segments: list[_Segment],
    cache: LayerCache,
    max_new_tokens: int,
    ignore_eos: bool,
) -> list[list[int]]:
    """Token ids per question, the end token included where one came."""
    eos = engine.vlm.processor.eos
    ends = torch.tensor(sorted(eos), device=logits.device)
    chosen = [logits.argmax(-1)]  # of [Q]
    live = ~torch.isin(chosen[0], ends)
    holes = [not bool(s.valid.all()) for s in segments]
    for _ in range(max_new_tokens - 1):
        if not ignore_eos and not bool(live.any()):
            break
        chosen.append(_step(engine, chosen[-1], segments, cache, holes).argmax(-1))
        live = live & ~torch.isin(chosen[-1], ends)
    out: list[list[int]] = []
    for row in torch.stack(chosen, 1).tolist():
        end = next((i for i, token in enumerate(row) if token in eos), None)
        out.append(row if end is None or ignore_eos else row[: end + 1])
    return out


def _forced(
    engine: Engine,
    logits: Tensor,
    segments: list[_Segment],
    cache: LayerCache,
    continuations: Sequence[Sequence[int]],
) -> list[Likelihood]:
    """Teacher forcing: the loss of each continuation, token by token."""
    ids, valid = _pad(continuations, logits.device)
    holes = [not bool(s.valid.all()) for s in segments]
    loss = torch.zeros(len(ids), device=logits.device)
    greedy = torch.ones(len(ids), dtype=torch.bool, device=logits.device)
    for at in range(ids.shape[1]):
        if at > 0:
            logits = _step(engine, ids[:, at - 1], segments, cache, holes)
        log = logits.float().log_softmax(-1).gather(1, ids[:, at : at + 1])[:, 0]
        loss -= log * valid[:, at]
        greedy &= (logits.argmax(-1) == ids[:, at]) | ~valid[:, at]
    return [Likelihood(value, same) for value, same in zip(loss.tolist(), greedy.tolist(), strict=True)]


def _count_prefill(
    engine: Engine,
    traces: Sequence[SampleTrace],
    segments: Sequence[_Segment],
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


def _count_decode(engine: Engine, trace: SampleTrace, generated: int) -> None:
    """FLOPs of the tokens after the first, each over a cache that has grown by one."""
    decoder = engine.vlm.decoder
    trace.answer = generated
    total = 0
    for step in range(1, generated):
        total += sum(decoder.flops_layer(1, trace.text + n + step) for n in trace.llm) + decoder.flops_head(1)
    trace.flops["decode"] = total
