"""Which frame of a clip may merge into which, inside an encoder: runs of frames alike, and neighbours within them.

A clip is cut where the mean tokens of neighbouring frames are less alike than a threshold, and a run is cut again once
it has a given length. Within a run the second of each pair of frames that still hold tokens may merge into the first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.frames_apart import FramesApart
from meteor_bench.core.host import places, upload
from meteor_bench.methods.shared.helpers import unit

__all__ = ["Runs", "earlier", "in_turn", "runs_of"]


class Runs(NamedTuple):
    """How B clips of F frames are cut.

    Attributes:
        turn: [B, F] long, the place of each frame in the order in which frames are neighbours.
        run: [B, F] long, the run that a frame belongs to, by the place of its first frame.
    """

    turn: Tensor
    run: Tensor


def runs_of(frames: FramesApart, clips: int, turn: Tensor, threshold: float, length: int) -> Runs:
    """Cut clips into runs.

    Args:
        turn: [B, F] see `Runs`.
        threshold: least cosine of neighbours in a run.
        length: most frames of a run.
    """
    x, visual, size = frames.tokens.x.float(), frames.tokens.visual, frames.tokens.size
    count = len(frames.lengths) // clips
    mean = unit(((size * visual)[..., None] * x).sum(1))  # [R', D]; a mean but for its length
    live = upload(frames.rows, x.device)
    order, sample = in_turn(live, turn)
    apart = (mean[order[1:]] * mean[order[:-1]]).sum(-1) < threshold
    first = torch.ones_like(sample[:1], dtype=torch.bool)
    begins = torch.cat([first, apart | (sample[1:] != sample[:-1])])
    # By the frame's place in its clip; a frame without tokens begins nothing.
    here = turn.flatten()[live[order]]
    cut = torch.zeros(clips, count, dtype=torch.bool, device=x.device)
    cut[sample, here] = begins
    place = places(count, x.device)
    start = torch.where(cut, place, 0).cummax(1).values
    start = place - (place - start) % length
    return Runs(turn, start.gather(1, turn))


def earlier(frames: FramesApart, runs: Runs) -> Tensor:
    """[R'] long, for each frame that is a row the row that it may merge into, -1 for none."""
    turn = runs.turn
    live = upload(frames.rows, turn.device)
    order, sample = in_turn(live, turn)
    run = runs.run.flatten()[live[order]] + sample * turn.shape[1]
    own = places(len(order), turn.device)
    begins = torch.cat([torch.ones_like(run[:1], dtype=torch.bool), run[1:] != run[:-1]])
    rank = own - torch.where(begins, own, 0).cummax(0).values
    before = torch.where(rank % 2 == 1, order.roll(1), -1)
    return torch.empty_like(before).scatter_(0, order, before)


def in_turn(live: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """The rows [R'] of frames ``live`` among B·F, clip after clip in the order of ``turn`` [B, F], and their clips."""
    count = turn.shape[1]
    sample = live // count
    order = (turn.flatten()[live] + sample * count).argsort()
    return order, sample[order]
