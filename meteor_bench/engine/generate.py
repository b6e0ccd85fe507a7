"""Answers token by token, greedy or forced.

The library's `generate` reads the cache's length from layer 0 and so cannot follow a pruned sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.model import Prompt
from meteor_bench.core.stops import Stops
from meteor_bench.core.trace import SampleTrace
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import Visual
from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.engine.prefill import (
    Prefix,
    Start,
    begin,
)
from meteor_bench.engine.sequence import (
    Segment,
    pad,
)
from meteor_bench.engine.static_decode import decode

__all__ = ["Generation", "Likelihood", "answer", "finish", "score"]


@dataclass(frozen=True)
class Generation:
    """One answer: its token ids (end token left out), what was counted on the way, whether all logits were finite."""

    ids: tuple[int, ...]
    trace: SampleTrace
    finite: bool = True


class Likelihood(NamedTuple):
    """Negative log-likelihood (nats) of a continuation, and whether greedy decoding gives it."""

    loss: float
    greedy: bool


def answer(
    engine: Engine,
    shared: Visual | Prefix,
    rows: Sequence[int],
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    *,
    share: int = 1,
    ignore_eos: bool = False,
    until: Sequence[Sequence[str]] = (),
    limits: Sequence[int] = (),
) -> list[Generation]:
    """Answer a batch of questions greedily.

    Args:
        shared: a `Prefix` extends what is cached; a `Visual` runs everything in one pass.
        rows: which image each question is about.
        prompts: one per question; their template heads must be equal.
        max_new_tokens: answers end there, or at an end token.
        share: as for `begin`.
        ignore_eos: generate exactly ``max_new_tokens``, for latency runs.
        until: for each question the strings that end its answer too, once one of them is complete.
        limits: for each question its own most tokens, at most ``max_new_tokens``: what is counted of an answer does not
            depend on the others of its batch.
    """
    start = begin(engine, shared, rows, prompts, max_new_tokens, share)
    stops = None
    if not ignore_eos:
        vlm, count = engine.vlm, len(rows)
        most = limits or [max_new_tokens] * count
        stops = Stops(vlm.processor.decode, until or [()] * count, vlm.processor.eos, most)
    return finish(engine, start, max_new_tokens, stops)


def finish(engine: Engine, start: Start, max_new_tokens: int, stops: Stops | None = None) -> list[Generation]:
    """Answer what has been prefilled, greedily.

    Args:
        stops: where answers end; None: nowhere before ``max_new_tokens``.
    """
    eos = engine.vlm.processor.eos
    with engine.clock.stage("decode"):
        answers = _greedy(engine, start.logits, start.segments, start.cache, max_new_tokens, stops)
    found = []
    for trace, (out, finite) in zip(start.traces, answers, strict=True):
        _count_decode(engine, trace, len(out))
        ended = out[:-1] if out and out[-1] in eos and stops is not None else out
        found.append(Generation(tuple(ended), trace, finite))
    return found


def score(
    engine: Engine,
    shared: Visual | Prefix,
    rows: Sequence[int],
    prompts: Sequence[Prompt],
    continuations: Sequence[Sequence[int]],
    *,
    share: int = 1,
) -> list[Likelihood]:
    """How likely given answers are; arguments as for `answer`, one continuation (ids, not empty) per question."""
    start = begin(engine, shared, rows, prompts, max(len(c) for c in continuations), share)
    return _forced(engine, start.logits, start.segments, start.cache, continuations)


def _step(engine: Engine, chosen: Tensor, segments: list[Segment], cache: LayerCache, holes: list[bool]) -> Tensor:
    """Feed one token [Q] to every row; logits [Q, V] of the next."""
    decoder = engine.vlm.decoder
    h = decoder.embed(chosen)
    for segment, has_holes in zip(segments, holes, strict=True):
        positions, mask = segment.append()
        h = h.reshape(*positions.shape, -1)
        rotary = decoder.rotary(h, positions)
        for layer in range(segment.start, segment.stop):
            h = decoder.layer(layer, h, rotary, mask if has_holes else None, cache, None)
    return decoder.head(h.flatten(0, 1))


def _greedy(
    engine: Engine,
    logits: Tensor,
    segments: list[Segment],
    cache: LayerCache,
    max_new_tokens: int,
    stops: Stops | None,
) -> list[tuple[list[int], bool]]:
    """Token ids per question, the end token included where one came, and whether the logits they come of are finite.

    Args:
        stops: where answers end; None: nowhere before ``max_new_tokens``.
    """
    if engine.graphs is not None and stops is None:
        ids, values = decode(engine.graphs, engine.vlm.decoder, segments, cache, logits, max_new_tokens)
    else:
        best = [logits.max(-1)]  # values and ids [Q]; where there is a NaN or an infinity it is the value
        holes = [s.holes for s in segments]
        for _ in range(max_new_tokens - 1):
            if stops is not None and stops.add(best[-1].indices.tolist()):
                break
            best.append(_step(engine, best[-1].indices, segments, cache, holes).max(-1))
        ids, values = torch.stack([one.indices for one in best], 1), torch.stack([one.values for one in best], 1)
    rows, sound = ids.tolist(), values.isfinite().tolist()
    # What comes behind an answer's end is nobody's.
    lengths = [None if stops is None else stops.length(row) for row in range(len(rows))]
    return [(row[:n], all(flags[:n])) for row, flags, n in zip(rows, sound, lengths, strict=True)]


def _forced(
    engine: Engine,
    logits: Tensor,
    segments: list[Segment],
    cache: LayerCache,
    continuations: Sequence[Sequence[int]],
) -> list[Likelihood]:
    """Teacher forcing: the loss of each continuation, token by token."""
    ids, valid = pad(continuations, logits.device)
    holes = [s.holes for s in segments]
    loss = torch.zeros(len(ids), device=logits.device)
    greedy = torch.ones(len(ids), dtype=torch.bool, device=logits.device)
    for at in range(ids.shape[1]):
        if at > 0:
            logits = _step(engine, ids[:, at - 1], segments, cache, holes)
        log = logits.float().log_softmax(-1).gather(1, ids[:, at : at + 1])[:, 0]
        loss -= log * valid[:, at]
        greedy &= (logits.argmax(-1) == ids[:, at]) | ~valid[:, at]
    return [Likelihood(value, same) for value, same in zip(loss.tolist(), greedy.tolist(), strict=True)]


def _count_decode(engine: Engine, trace: SampleTrace, generated: int) -> None:
    """FLOPs of the tokens after the first, each over a cache that has grown by one."""
    decoder = engine.vlm.decoder
    trace.answer = generated
    total = 0
    for step in range(1, generated):
        layers = enumerate(trace.llm)
        total += sum(decoder.flops_at(i, 1, trace.text + n + step) for i, n in layers) + decoder.flops_head(1)
    trace.flops["decode"] = total
