"""How layers of the language model run: on whole sequences, or on questions over what is cached of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.attention_probe import Probe
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.engine.sequence import Segment, Stream, causal_mask, spread

__all__ = ["Placed", "extend", "run_layers", "run_stream"]


class Placed(NamedTuple):
    """Visual tokens in a sequence.

    Attributes:
        head: how many others stand in front of them.
        deep: [R, N, K·D] `Tokens.deep`.
    """

    head: int
    deep: Tensor | None


def extend(
    engine: Engine,
    stream: Stream,
    layers: Sequence[int],
    share: int,
    cache: LayerCache,
    probe: Probe | None,
    segments: list[Segment],
) -> Stream:
    """Run layers on the questions alone, over what is cached of the images; adds the layers' segment."""
    q, t, dim = stream.text.shape
    valid, k = stream.valid(), stream.before.shape[1] + stream.visual.x.shape[1]
    cached, own = valid[:, :k], valid[:, k:]
    start, stop = layers[0], layers[-1] + 1
    seen = torch.cat([cached, spread(own, share)], 1)
    segments.append(Segment(start, stop, seen, stream.following(), share, stream.lengths()))
    at = stream.positions()[:, k:]
    positions = at.reshape(q // share, share * t, *at.shape[2:])  # as many axes as they have
    mask = causal_mask(own, cached, share)
    text = stream.text.reshape(q // share, share * t, dim)
    h = run_layers(engine, text, engine.vlm.decoder.rotary(text, positions), mask, start, stop, cache, probe)
    return replace(stream, text=h.reshape(q, t, dim))


def run_stream(engine: Engine, stream: Stream, start: int, stop: int, cache: LayerCache, probe: Probe | None) -> Stream:
    """Run layers on the whole stream."""
    p, n = stream.before.shape[1], stream.visual.x.shape[1]
    h = torch.cat([stream.before, stream.visual.x, stream.text], 1)
    mask = causal_mask(stream.valid(), None, padded=stream.padded())
    rotary = engine.vlm.decoder.rotary(h, stream.positions())
    h = run_layers(engine, h, rotary, mask, start, stop, cache, probe, Placed(p, stream.visual.deep))
    visual = stream.visual.with_x(h[:, p : p + n])
    return replace(stream, before=h[:, :p], visual=visual, text=h[:, p + n :], rotary=rotary)


def run_layers(
    engine: Engine,
    h: Tensor,
    rotary: tuple[Tensor, Tensor],
    mask: Tensor | None,
    start: int,
    stop: int,
    cache: LayerCache,
    probe: Probe | None,
    placed: Placed | None = None,
) -> Tensor:
    """The one layer loop. The probe, if any, reads the last layer of the range.

    Args:
        h: [R, T, D]; rotary, mask: as for `Decoder.layer`.
        placed: where there are visual tokens in ``h``.
    """
    decoder = engine.vlm.decoder
    for layer in range(start, stop):
        h = decoder.layer(layer, h, rotary, mask, cache, probe if layer == stop - 1 else None)
        if placed is not None and placed.deep is not None:
            h = _deepened(h, placed.deep, placed.head, layer)
    return h


def _deepened(h: Tensor, deep: Tensor, head: int, layer: int) -> Tensor:
    """[R, T, D] with what is added to the visual tokens behind a layer, see `Tokens.deep`."""
    n, width = deep.shape[1], h.shape[2]
    part = deep[..., layer * width : (layer + 1) * width]
    if part.shape[2] == 0:
        return h
    return torch.cat([h[:, :head], h[:, head : head + n] + part, h[:, head + n :]], 1)
