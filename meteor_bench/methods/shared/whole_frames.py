"""Runs of whole frames that are alike, which of them merge, and the merge as a decision about tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.host import on_device, places
from meteor_bench.core.pruner import Decision
from meteor_bench.core.tokens import Tokens
from meteor_bench.methods.shared.helpers import unit

__all__ = ["Merge", "alike_frames", "carried_out", "merges", "walked"]


class Merge(NamedTuple):
    """A frame that takes in another, and how much it counts itself."""

    frame: int
    other: int
    weight: float


def walked(alike: Sequence[Sequence[float]], threshold: float, window: int, memory: float) -> list[range]:
    """The runs of frames with the mutual likenesses ``alike`` [F][F]."""
    found, start, average = [], 0, 1.0
    for i in range(1, len(alike)):
        average = memory * alike[start][i] + (1 - memory) * average
        if average < threshold or i - start + 1 >= window:
            found.append(range(start, i))
            start, average = i, 1.0
    return [*found, range(start, len(alike))]


def merges(alike: Sequence[Sequence[float]], run: range, *, lose: bool) -> list[Merge]:
    """What merges within a run; ``lose``: a last frame without a partner counts as taken in by the one before it."""
    middle = run[1:-1]
    if len(middle) < 2:
        return []
    ends = alike[run[0]][run[-1]]
    near = [alike[a][b] for a, b in pairwise(middle)]
    found, i = [], 0
    while i < len(near):
        last = i + 1 == len(near)
        if near[i] > ends and (last or near[i] > near[i + 1]):
            weight = near[i] / (near[i] + near[i + 1]) if not last and near[i + 1] > 0 else 1.0
            found.append(Merge(middle[i], middle[i + 1], weight))
            i += 1
        i += 1
    if lose and i == len(near):
        taken = next((merge.frame for merge in found if merge.other == middle[-2]), middle[-2])
        found.append(Merge(taken, middle[-1], 1.0))
    return found


def alike_frames(x: Tensor) -> list[list[float]]:
    """F rows of F mean cosines of tokens at the same place of [F, S, D]; waits for the device."""
    flat = unit(x).flatten(1)
    found: list[list[float]] = (flat @ flat.T / x.shape[1]).tolist()
    return found


def carried_out(tokens: Tokens, kept: Tensor, goes: Tensor, weight: Tensor) -> Decision:
    """A merge of whole frames.

    Args:
        kept, goes, weight: [B, F] on the CPU, whether a frame stays, the one that it ends in, what it counts there.
    """
    device, (b, n), each = tokens.x.device, tokens.x.shape[:2], tokens.grid.h * tokens.grid.w
    frame_of, own = torch.where(tokens.visual, tokens.origin, 0) // each, places(n, device)
    # Where a cell's token stands; the token at the same place of the other frame is there, as both are whole.
    seat = torch.zeros(b, tokens.grid.n + 1, dtype=torch.long, device=device)  # the last one is nobody's
    seat.scatter_(1, torch.where(tokens.visual, tokens.origin, tokens.grid.n), own.expand(b, n))
    goal = on_device(goes, device).gather(1, frame_of) * each + tokens.origin.clamp(min=0) % each
    return Decision(
        keep=on_device(kept, device).gather(1, frame_of) & tokens.visual,
        merge_into=torch.where(tokens.visual, seat.gather(1, goal), -1),
        weight=on_device(weight, device).gather(1, frame_of),
        count=kept.sum(1) * each,
    )
