"""Decoding over a cache of fixed size: each token is one and the same step, which can be captured (`core.graphs`).

Where the next token goes, what may be seen and which position comes next are numbers on the device that the step itself
moves on. Slots that no token has reached are masked. The tokens are those of `engine.generate` up to rounding: a mask
takes the place of a cache that grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.graphs import Graphs
from meteor_bench.core.model import Decoder
from meteor_bench.engine.kv_cache import LayerCache
from meteor_bench.engine.sequence import Segment

__all__ = ["decode"]


class _Part:
    """Consecutive layers that hold the same tokens.

    Attributes:
        valid: [Q, W] bool, slots that hold a token.
        next: [Q] long, position id of the next token.
        at: [1] long, the slot that it goes to.
    """

    def __init__(self, segment: Segment, width: int) -> None:
        self.start, self.stop = segment.start, segment.stop
        self.valid = segment.valid.new_zeros(len(segment.valid), width)
        self.next = torch.zeros_like(segment.next)
        self.at = torch.zeros(1, dtype=torch.long, device=segment.valid.device)

    def load(self, segment: Segment) -> None:
        """Stand at a prefill's end."""
        used = segment.valid.shape[1]
        self.valid.fill_(False)
        self.valid[:, :used] = segment.valid
        self.next.copy_(segment.next)
        self.at.fill_(used)


class _Static:
    """A batch's decoding; its tensors stay where they are.

    Attributes:
        ids, values: [Q, T] the tokens, and the highest logit that each comes of.
    """

    def __init__(self, decoder: Decoder, segments: Sequence[Segment], cache: LayerCache, tokens: int) -> None:
        self._decoder, self._parts = decoder, [_Part(s, s.valid.shape[1] + tokens) for s in segments]
        self._part_of = {layer: part for part in self._parts for layer in range(part.start, part.stop)}
        self._stores: list[tuple[Tensor, Tensor]] = []
        for layer in range(decoder.depth):
            keys, values = cache.held(layer)
            shape = (*keys.shape[:2], keys.shape[2] + tokens, keys.shape[3])
            self._stores.append((keys.new_zeros(shape), values.new_zeros(shape)))  # a NaN would shine through a mask
        rows, device = len(segments[0].valid), segments[0].valid.device
        self.ids = torch.zeros(rows, tokens, dtype=torch.long, device=device)
        self.values: Tensor | None = None
        self._token = torch.zeros(rows, dtype=torch.long, device=device)
        self._count = torch.zeros(1, dtype=torch.long, device=device)

    def load(self, segments: Sequence[Segment], cache: LayerCache, best: Any) -> None:
        """Stand at a prefill's end, its first token found (``best``: values and indices [Q])."""
        for part, segment in zip(self._parts, segments, strict=True):
            part.load(segment)
        for layer, stores in enumerate(self._stores):
            for store, held in zip(stores, cache.held(layer), strict=True):
                store[:, :, : held.shape[2]] = held
        if self.values is None:
            self.values = best.values.new_zeros(self.ids.shape)
        self._count.zero_()
        self._note(best)

    def _note(self, best: Any) -> None:
        assert self.values is not None, "not loaded"
        self._token.copy_(best.indices)
        self.ids.index_copy_(1, self._count, best.indices[:, None])
        self.values.index_copy_(1, self._count, best.values[:, None])
        self._count += 1

    def step(self) -> None:
        """One token more of each row."""
        h = self._decoder.embed(self._token)
        for part in self._parts:
            part.valid.index_fill_(1, part.at, True)
            h = h.reshape(len(self._token), 1, -1)
            rotary = self._decoder.rotary(h, part.next[:, None])
            for layer in range(part.start, part.stop):
                h = self._decoder.layer(layer, h, rotary, part.valid[:, None, None], self, None)
            part.at += 1
            part.next += 1
        self._note(self._decoder.head(h.flatten(0, 1)).max(-1))

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write a token's [Q, H, 1, d] into its slot; all there is, [Q, H, W, d], reached or not."""
        at, stores = self._part_of[layer_idx].at, self._stores[layer_idx]
        stores[0].index_copy_(2, at, keys)
        stores[1].index_copy_(2, at, values)
        return stores


def decode(
    graphs: Graphs, decoder: Decoder, segments: Sequence[Segment], cache: LayerCache, logits: Tensor, tokens: int
) -> tuple[Tensor, Tensor]:
    """[Q, T] token ids, and the highest logit that each comes of.

    Args:
        segments, cache: of a prefill in which no questions share a row.
        logits: [Q, V] its last ones.
        tokens: T.
    """
    key = id(decoder), tokens, *((s.start, s.stop, *s.valid.shape) for s in segments)
    if key not in graphs.kept:
        made = _Static(decoder, segments, cache, tokens)
        graphs.kept[key] = made, graphs.runner(made.step)
    static, step = graphs.kept[key]
    static.load(segments, cache, logits.max(-1))
    for _ in range(tokens - 1):
        step()
    return static.ids, static.values
