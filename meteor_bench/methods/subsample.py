"""subsample: fewer frames of a clip at equal tokens. A control; video methods that lose to it add nothing.

Before the language model: of F frames those in the middle of equal runs stay, as many whole ones as the budget holds;
what is left of the budget goes to one more, of which evenly spread tokens stay. Positions are kept, so that what is
left says when it was. A single picture is one frame: the same as `uniform`. The encoders run on all frames; to spare
their time too, give `--frames`, and compare at equal tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meteor_bench.core.host import on_device
from meteor_bench.core.pruner import Decision, Fact, FuseView
from meteor_bench.methods.shared.clips import as_clip
from meteor_bench.methods.shared.helpers import evenly, rank_of, strided
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["Subsample"]


@dataclass(frozen=True)
class Subsample(FuseChooser):
    """It has no parameters."""

    fact: ClassVar[Fact] = Fact(year=0, paper="control")

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Whole frames, evenly spread, and a part of one more."""
        tokens = as_clip(view).tokens
        if tokens.grid.t == 1 or not tokens.whole:
            return Decision(keep=evenly(tokens, share), count=share)
        frames, each = tokens.grid.t, tokens.grid.h * tokens.grid.w
        # The grid is whole, so the host can work it out.
        full = share // each
        taken = (full + (share % each > 0).long()).clamp(max=frames)
        chosen = strided(torch.ones(len(share), frames, dtype=torch.bool), taken)  # [B, F]
        last = chosen & (rank_of(chosen) == taken[:, None] - 1)  # holds the rest, if there is one
        part = strided(torch.ones(len(share), each, dtype=torch.bool), share - each * (taken - 1))
        keep = chosen[..., None] & (~last[..., None] | part[:, None])
        return Decision(keep=on_device(keep.flatten(1), tokens.x.device), count=share)
