"""The sequence inside the language model: what it is made of, where its tokens stand, what they may see.

Causality here is by slot: a query sees the valid slots up to its own, wherever the padding lies. Positions are carried
separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meteor_bench.core.tokens import Tokens

__all__ = ["Segment", "Stream", "causal_mask", "pad", "spread"]


@dataclass
class Segment:
    """Consecutive layers that hold the same tokens.

    Attributes:
        valid: [Q, K] bool, which cache slots of these layers hold a token of this question.
        next: [Q] position id of the next token.
        share: questions that follow one another and share a row of these layers' cache.
    """

    start: int
    stop: int
    valid: Tensor
    next: Tensor
    share: int = 1

    def append(self) -> tuple[Tensor, Tensor]:
        """A token more of each question: its position ids [Q / share, share], and what it sees, [.., 1, share, K]."""
        rows = len(self.valid) // self.share
        new = torch.eye(self.share, dtype=torch.bool, device=self.valid.device).repeat(rows, 1)
        self.valid = torch.cat([self.valid, new], 1)
        at, self.next = self.next, self.next + 1
        return at.view(rows, self.share), self.valid.view(rows, 1, self.share, -1)


@dataclass
class Stream:
    """The sequence between two pruning points: [head | visual | question], each part padded on its own."""

    before: Tensor  # [Q, P, D]
    visual: Tokens  # [Q, N]
    text: Tensor  # [Q, T, D]
    text_valid: Tensor  # [Q, T]
    layout: int
    policy: str
    table: Tensor | None = None  # [L] or [L, A], see `Block.positions`

    def valid(self) -> Tensor:
        """[Q, P + N + T] bool."""
        head = torch.ones(self.before.shape[:2], dtype=torch.bool, device=self.before.device)
        return torch.cat([head, self.visual.valid, self.text_valid], 1)

    def positions(self) -> Tensor:
        """[Q, P + N + T] position ids under the policy, [Q, P + N + T, A] on several axes; padding gets 0.

        "renumber" gives a visual token the same contiguous id on every axis, as text has it.
        """
        q, p = self.before.shape[:2]
        device = self.before.device
        head = torch.arange(p, device=device).expand(q, p)
        valid = self.visual.valid
        if self.policy == "keep":
            visual = self.visual.origin if self.visual.slot is None else self.visual.slot
            visual = visual if self.table is None else self.table[visual.clamp(min=0)]
            start = torch.full((q, 1), p + self.layout, device=device)
        else:
            visual = valid.long().cumsum(1) - 1
            start = p + valid.sum(1, keepdim=True)
        text = start + torch.arange(self.text.shape[1], device=device)
        if self.table is not None and self.table.ndim > 1:
            axes = self.table.shape[1]
            head, text = head[..., None].expand(-1, -1, axes), text[..., None].expand(-1, -1, axes)
            visual = visual if visual.ndim > 2 else visual[..., None].expand(-1, -1, axes)
            valid = valid[..., None]
        return torch.cat([head, (p + visual).masked_fill(~valid, 0), text], 1)

    def following(self) -> Tensor:
        """[Q] position id of the first generated token."""
        p = self.before.shape[1]
        used = self.text_valid.sum(1)
        spaced = self.visual.valid.sum(1) if self.policy != "keep" else torch.full_like(used, self.layout)
        return p + spaced + used


def pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids [Q, T] padded on the right with 0, and their validity."""
    width = max(len(s) for s in sequences)
    ids = torch.tensor([[*s, *[0] * (width - len(s))] for s in sequences], device=device)
    lengths = torch.tensor([len(s) for s in sequences], device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]


def causal_mask(valid: Tensor, cached: Tensor | None, share: int = 1) -> Tensor | None:
    """[Q / share, 1, share·T, K + share·T] bool; None where plain causal attention without padding says the same.

    Questions that share a row of the cache stand in it one after another, and none sees another.

    Args:
        valid: [Q, T]; cached: [Q, K], the same for all questions of a row.
    """
    if cached is None or cached.shape[1] == 0:
        if bool(valid.all()):
            return None
        cached = valid[:, :0]
    width = share * valid.shape[1]
    at = torch.arange(width, device=valid.device)
    question = at // valid.shape[1]
    causal = (at <= at[:, None]) & (question == question[:, None])
    own = (causal & valid.reshape(-1, 1, width)) | (at == at[:, None])
    return torch.cat([cached[::share, None].expand(-1, width, -1), own], 2)[:, None]


def spread(valid: Tensor, share: int) -> Tensor:
    """[Q, T] of each question's own slots -> [Q, share·T] in the row that it shares."""
    own = torch.eye(share, dtype=torch.bool, device=valid.device)[None, :, :, None]
    return (own & valid.view(-1, 1, share, valid.shape[1])).flatten(2).flatten(0, 1)
