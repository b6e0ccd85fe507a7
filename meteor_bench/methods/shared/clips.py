"""Samples of a fuse point as clips: every cell of the grid by frame and position, and decisions led back to tokens.

Tokens that are gone leave holes, so that methods that compare the same position of two frames need not care what was
done before. A single picture is a clip of one frame, whatever tiles it was cut into.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.pruner import Decision, EncodeView, FuseView, TowerAttention
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.shared.helpers import per_tower
from meteor_bench.methods.shared.selection import EncodeScorer

__all__ = [
    "Clip",
    "ClipScorer",
    "as_clip",
    "clip_of",
    "cosine_to",
    "decided",
    "frame_likeness",
    "group_of_frames",
    "on_clip",
    "segments",
]


class Clip(NamedTuple):
    """A batch of clips.

    Attributes:
        x: [B, F, P, D] float32, zero where a token is gone.
        there: [B, F, P] bool.
        known: [B, F, P] bool, the same on the CPU.
        seat: [B, F·P] long, where the cell's token stands in the sequence (anything where it is gone); None: every
            token stands in its own cell.
    """

    x: Tensor
    there: Tensor
    known: Tensor
    seat: Tensor | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, F, P."""
        b, f, p = self.there.shape
        return b, f, p


def clip_of(tokens: Tokens) -> Clip:
    """The tokens by frame and position; waits for the device only where some may be gone."""
    grid, b = tokens.grid, tokens.x.shape[0]
    shape = (b, grid.t, grid.h * grid.w)
    if tokens.whole:
        x = tokens.x.float().reshape(*shape, -1)
        return Clip(x, torch.ones(shape, dtype=torch.bool, device=x.device), torch.ones(shape, dtype=torch.bool), None)
    n, cells = tokens.x.shape[1], grid.n
    place = tokens.origin.masked_fill(~tokens.visual, cells)
    own = torch.arange(n, device=place.device).expand_as(place)
    seat = torch.full((b, cells + 1), -1, dtype=torch.long, device=place.device).scatter(1, place, own)[:, :cells]
    there, seat = seat >= 0, seat.clamp(min=0)
    x = take_rows(tokens.x.float(), seat).masked_fill(~there[..., None], 0.0)
    return Clip(x.reshape(*shape, -1), there.reshape(shape), there.reshape(shape).cpu(), seat)


def as_clip(view: FuseView) -> FuseView:
    """The view as one of clips: where its grid counts tiles, not frames, they are one picture, one below the other."""
    t, h, w = view.tokens.grid
    if t == 1 or view.layout.framed:
        return view
    return view.changed(tokens=view.tokens.changed(grid=Grid(1, t * h, w)))


def on_clip(clip: Clip, values: Tensor) -> Tensor:
    """[B, F, P] of what [B, N] tokens have; meaningless where a token is gone."""
    return (values if clip.seat is None else values.gather(1, clip.seat)).reshape(clip.shape)


def decided(
    tokens: Tokens,
    clip: Clip,
    keep: Tensor,
    count: Tensor,
    *,
    into: Tensor | None = None,
    weight: Tensor | None = None,
    mix: Tensor | None = None,
    order: Tensor | None = None,
) -> Decision:
    """A decision about cells as one about tokens.

    Args:
        keep: [B, F·P] bool; into: [B, F·P] long, the cell that one ends in; weight, order: [B, F·P]; mix: [B, K, F·P];
            as in `Decision`.
        count: [B] long on the CPU, tokens kept.
    """
    if clip.seat is None:
        return Decision(keep=keep, merge_into=into, weight=weight, mix=mix, order=order, count=count)
    cell = tokens.origin.clamp(min=0)
    keep = keep.gather(1, cell) & tokens.visual
    if into is not None:
        ends = into.gather(1, cell)
        into = torch.where(tokens.visual & (ends >= 0), clip.seat.gather(1, ends.clamp(min=0)), -1)
    weight, order = (None if value is None else value.gather(1, cell) for value in (weight, order))
    if mix is not None:
        mix = mix.gather(2, cell[:, None].expand(-1, mix.shape[1], -1)) * tokens.visual[:, None]
    return Decision(keep=keep, merge_into=into, weight=weight, mix=mix, order=order, count=count)


def cosine_to(clip: Clip, frames: list[int], others: list[int]) -> Tensor:
    """[B, len(frames), P] float64 cosine of each token with the one at its position in another frame, -2 without."""
    v = F.normalize(clip.x.double(), dim=-1, eps=1e-12)
    both = clip.there[:, frames] & clip.there[:, others]
    return (v[:, frames] * v[:, others]).sum(-1).masked_fill(~both, -2.0)


def group_of_frames(clip: Clip) -> Tensor:
    """[B, F·P] the frame of each token; F where it is gone."""
    b, frames, cells = clip.shape
    frame = torch.arange(frames, device=clip.x.device)[:, None].expand(b, -1, cells)
    return frame.masked_fill(~clip.there, frames).flatten(1)


def frame_likeness(clip: Clip) -> list[list[float]]:
    """B rows of F - 1 cosines between the mean tokens of neighbouring frames; waits for the device (not for one)."""
    b, frames, _ = clip.shape
    if frames == 1:
        return [[] for _ in range(b)]
    mean = F.normalize(clip.x.double().sum(2), dim=-1, eps=1e-12)  # a mean but for its length
    found: list[list[float]] = (mean[:, 1:] * mean[:, :-1]).sum(-1).tolist()
    return found


def segments(likeness: list[float], cuts: int, threshold: float) -> list[range]:
    """Runs of frames, cut where neighbours are less alike than a threshold and at the ``cuts`` least alike ones."""
    least = sorted(range(len(likeness)), key=lambda i: (likeness[i], i))[:cuts]
    after = sorted({*least, *(i for i, value in enumerate(likeness) if value < threshold)})
    bounds = [0, *(i + 1 for i in after), len(likeness) + 1]
    return [range(a, b) for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class ClipScorer(EncodeScorer):
    """A choice among the projected tokens of whole clips, by the attention at the encoders' outputs and what they hold.

    Several encoders, and those without a class token or attention, as in `methods.shared.selection`.
    """

    statistic: ClassVar[TowerAttention | None] = "cls"
    projected: ClassVar[bool] = True

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Only score."""
        return {name: Decision(keep=v.tokens.visual, score=self.scored(v, self.score(v))) for name, v in views.items()}

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Choose among each encoder's tokens, or those of the common grid; all frames of a clip together."""
        return per_tower(views, lambda view, share: self.choose(as_clip(view), self.combined(view), share))
