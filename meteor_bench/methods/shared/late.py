"""Late in the language model: what the last prompt token looks at stays and takes in the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from meteor_bench.core.host import places
from meteor_bench.core.pruner import Decision, DecodeView, keep_top
from meteor_bench.methods.shared.helpers import nearest_kept, one_each

__all__ = ["taken_in"]


def taken_in(view: DecodeView, *, halved: bool) -> Decision:
    """Keep what the last prompt token attends to most (mean over heads); the rest joins the most alike of it.

    Args:
        halved: a token is not the mean of itself and all that it takes in: each newcomer in turn, in the order of the
            sequence, halves what is there, so that the last counts half, the one before a quarter.
    """
    score = view.attention.float().mean(1)[:, 0]
    keep = keep_top(score, view.target, view.candidates)
    into = nearest_kept(view.tokens.x, keep, view.candidates)
    weight = _halved(into) if halved else one_each(view.tokens)
    taken = bool((view.target > 0).all())  # then every token ends in another
    return Decision(keep=keep, merge_into=into, weight=weight, score=score, count=view.target, total=taken)


def _halved(into: Tensor) -> Tensor:
    """[B, N] what is left of each token when every newcomer halves what is there; into [B, N], where each ends.

    A token is halved once when it joins, a kept one, which ends in itself, is not, and both with every later newcomer.
    """
    n = into.shape[1]
    own = places(n, into.device)
    ends = torch.where(into < 0, own, into)
    joins = ends != own
    same = ends[:, None] == ends[:, :, None]  # [B, N, N]
    later = places(n, into.device) > places(n, into.device)[:, None]
    after = (same & joins[:, None] & (later | ~joins[:, :, None])).sum(2)
    return torch.exp2(-(after + joins).float())
