"""DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models (CVPR 2025, arXiv 2503.02175), section 3.

Before the language model, on projected tokens: the subset whose least distance between two members is as large as
can be (max-min diversity), greedily, with the distance 1 - cosine. First the token that is farthest from its nearest
other one, then always the token that is farthest from the chosen ones.

Deviations: the first two tokens of such a search are often each other's nearest, an exact tie; the lower index wins.
Where there are fewer distinct tokens than places the official code repeats indices; ours takes other tokens. The
paper's k = round(ratio·N), a half to the even neighbour, is the engine's budget. On an independent fusion each encoder
is pruned on its own, the budget split in proportion to the token counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.gather import take_rows
from meteor_bench.core.pruner import Decision, Fact, FuseView
from meteor_bench.methods.shared.helpers import unit
from meteor_bench.methods.shared.picks import picked, to_search
from meteor_bench.methods.shared.scorers import FuseChooser

__all__ = ["DivPrune", "farthest"]


def farthest(x: Tensor, k: Tensor, allowed: Tensor, count: Tensor | None = None) -> Tensor:
    """Greedy max-min selection by 1 - cosine.

    One step per token, each O(N); the distances are computed once.

    Args:
        x: [B, N, D].
        k: [B] long on the CPU, tokens to choose; clipped to those allowed.
        allowed: [B, N] bool.
        count: [B] on the CPU, how many are allowed; None: the device is asked.

    Returns:
        [B, N] bool.
    """
    v = unit(x)
    distance = 1 - v @ v.transpose(1, 2)  # [B, N, N]
    distance = (distance + distance.transpose(1, 2)) / 2  # rounding must not decide between i and j
    itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    nearest = distance.masked_fill(itself | ~allowed[:, None], torch.inf).amin(2)  # [B, N]
    nearest = nearest.masked_fill(~allowed, -torch.inf)
    # So far from all that are chosen as not to be chosen: what is, and what may not be.
    distance = distance.masked_fill_(itself | ~allowed[:, None], -torch.inf)
    k, whole = to_search(k, allowed.sum(1).cpu() if count is None else count)
    picks: list[Tensor] = []
    for _ in range(int(k.max())):
        picks.append(nearest.argmax(1, keepdim=True))  # [B, 1]
        gap = take_rows(distance, picks[-1])[:, 0]  # [B, N]
        nearest = torch.minimum(nearest, gap) if len(picks) > 1 else gap
    return picked(picks, torch.arange(len(picks)) < k[:, None], whole, allowed)


@dataclass(frozen=True)
class DivPrune(FuseChooser):
    """Max-min diversity, positions renumbered."""

    fact: ClassVar[Fact] = Fact(year=2025, paper="arXiv 2503.02175")
    positions: ClassVar[Literal["keep", "renumber"]] = "renumber"

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """A diverse subset of each sequence."""
        return Decision(keep=farthest(view.tokens.x, share, view.tokens.visual, view.tokens.counts()), count=share)
