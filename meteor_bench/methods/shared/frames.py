"""A clip's frames are images of their own: samples cut into rows of one frame each, and decisions joined again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.pruner import Decision, View
from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["Frames", "frames_of", "join_decision"]


class Frames(NamedTuple):
    """A fuse point's samples cut into rows of one frame each (or left whole where they are no full grid any more).

    Attributes:
        view: [R] rows.
        score: [R, n].
        share: [R] long, on the CPU.
        per_sample: rows per sample.
    """

    view: View
    score: Tensor
    share: Tensor
    per_sample: int


def frames_of(view: View, score: Tensor, share: Tensor) -> Frames:
    """Cut the samples [B] of a fuse point into frames, scores [B, N] and shares [B] with them."""
    tokens, grid = view.tokens, view.tokens.grid
    if grid.t == 1 or not tokens.whole:
        return Frames(view, score, share, 1)
    t, b = grid.t, tokens.x.shape[0]
    rows = Tokens.dense(tokens.x.reshape(b * t, grid.n // t, -1), Grid(1, grid.h, grid.w))
    frame = torch.arange(t, device=share.device)
    each = (share[:, None] // t + (frame < share[:, None] % t)).flatten()
    return Frames(view.changed(tokens=rows, target=each), score.reshape(b * t, -1), each, t)


def join_decision(decision: Decision, frames: int) -> Decision:
    """A decision about rows of frames [B·frames, n] as one about samples [B, frames·n]."""
    if frames == 1:
        return decision
    rows, n = decision.keep.shape
    b = rows // frames

    def long(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.reshape(b, frames * n)

    into, mix, places = decision.merge_into, decision.mix, decision.order
    if into is not None:
        shift = n * torch.arange(frames, device=into.device).repeat(b)[:, None]
        into = torch.where(into >= 0, into + shift, into)
    if places is not None:  # within a frame; frame stays after frame
        places = places.argsort(dim=1, stable=True).argsort(dim=1)
        places = places + n * torch.arange(frames, device=places.device).repeat(b)[:, None]
    if mix is not None:
        k = mix.shape[1]
        block = torch.eye(frames, dtype=mix.dtype, device=mix.device)[None, :, None, :, None]
        mix = (mix.reshape(b, frames, k, 1, n) * block).reshape(b, frames * k, frames * n)
        used = torch.arange(k, device=mix.device) < decision.keep.sum(1)[:, None]  # [R, k]
        order = (~used.reshape(b, -1)).to(torch.uint8).argsort(dim=1, stable=True)
        mix = mix.gather(1, order[..., None].expand_as(mix))
    return Decision(
        keep=decision.keep.reshape(b, -1),
        merge_into=long(into),
        weight=long(decision.weight),
        normalise=decision.normalise,
        mix=mix,
        score=long(decision.score),
        order=long(places),
        count=None if decision.count is None else decision.count.reshape(b, frames).sum(1),
    )
