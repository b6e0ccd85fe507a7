"""The sequence inside the language model: what it is made of, where its tokens stand, what they may see.

Causality here is by slot: a query sees the valid slots up to its own, wherever the padding lies. Positions are carried
separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meteor_bench.core.host import places, trues, upload
from meteor_bench.core.tokens import Tokens

IDS = "ids"  # in `core.sent`: of batches of one shape, each has questions of its own

__all__ = ["IDS", "Segment", "Stream", "causal_mask", "pad", "spread"]


@dataclass
class Segment:
    """Consecutive layers that hold the same tokens.

    Attributes:
        valid: [Q, K] bool, which cache slots of these layers hold a token of this question.
        next: [Q] position id of the next token.
        share: questions that follow one another and share a row of these layers' cache.
        lengths: Q tokens of each question.
    """

    start: int
    stop: int
    valid: Tensor
    next: Tensor
    share: int = 1
    lengths: Sequence[int] = ()

    @property
    def holes(self) -> bool:
        """Whether there is a slot that holds none."""
        return any(n != self.valid.shape[1] for n in self.lengths)

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
    text_lengths: Sequence[int] | None = None  # Q; None: read from ``text_valid``, which a GPU is waited for
    rotary: tuple[Tensor, Tensor] | None = None  # of its positions, where layers have run on just these tokens

    def texts(self) -> Sequence[int]:
        """Q tokens of each question."""
        if self.text_lengths is None:
            self.text_lengths = self.text_valid.sum(1).tolist()
        return self.text_lengths

    def valid(self) -> Tensor:
        """[Q, P + N + T] bool."""
        head = trues(len(self.before), self.before.shape[1], self.before.device)
        return torch.cat([head, self.visual.valid, self.text_valid], 1)

    def lengths(self) -> list[int]:
        """Q tokens of each row."""
        visual = [row.all for row in self.visual.host]
        return [self.before.shape[1] + n + t for n, t in zip(visual, self.texts(), strict=True)]

    def text_padded(self) -> bool:
        """Whether any question is padded."""
        return any(n != self.text.shape[1] for n in self.texts())

    def padded(self) -> bool:
        """Whether any row holds padding."""
        whole = self.before.shape[1] + self.visual.x.shape[1] + self.text.shape[1]
        return any(n != whole for n in self.lengths())

    def positions(self) -> Tensor:
        """[Q, P + N + T] position ids under the policy, [Q, P + N + T, A] on several axes; padding gets 0.

        "renumber" gives a visual token the same contiguous id on every axis, as text has it.
        """
        (q, p), n, t = self.before.shape[:2], self.visual.x.shape[1], self.text.shape[1]
        device, padded = self.before.device, self.visual.padded
        if self.policy != "keep" and not padded and (self.table is None or self.table.ndim == 1):
            return places(p + n + t, device).expand(q, -1)
        head = places(p, device).expand(q, p)
        valid = self.visual.valid
        if self.policy == "keep" or not padded:
            ahead = p + (self.layout if self.policy == "keep" else n)
            text = places(ahead + t, device)[ahead:].expand(q, t)
        else:
            text = p + valid.sum(1, keepdim=True) + places(t, device)
        if self.policy == "keep":
            visual = self.visual.origin if self.visual.slot is None else self.visual.slot
            visual = visual if self.table is None else self.table[visual.clamp(min=0)]
        else:
            visual = valid.long().cumsum(1) - 1 if padded else places(n, device).expand(q, n)
        if self.table is not None and self.table.ndim > 1:
            axes = self.table.shape[1]
            head, text = head[..., None].expand(-1, -1, axes), text[..., None].expand(-1, -1, axes)
            visual = visual if visual.ndim > 2 else visual[..., None].expand(-1, -1, axes)
            valid = valid[..., None]
        visual = p + visual
        return torch.cat([head, visual.masked_fill(~valid, 0) if padded else visual, text], 1)

    def following(self) -> Tensor:
        """[Q] position id of the first generated token."""
        p = self.before.shape[1]
        kept = [row.all for row in self.visual.host] if self.policy != "keep" else [self.layout] * len(self.text)
        return upload([p + n + t for n, t in zip(kept, self.texts(), strict=True)], self.before.device)


def pad(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids [Q, T] padded on the right with 0, and their validity."""
    width = max(len(s) for s in sequences)
    ids = upload([[*s, *[0] * (width - len(s))] for s in sequences], device, torch.long, own=IDS)
    valid = upload([[i < len(s) for i in range(width)] for s in sequences], device, torch.bool)
    return ids, valid


def causal_mask(valid: Tensor, cached: Tensor | None, share: int = 1, *, padded: bool = True) -> Tensor | None:
    """[Q / share, 1, share·T, K + share·T] bool; None where plain causal attention without padding says the same.

    Questions that share a row of the cache stand in it one after another, and none sees another.

    Args:
        valid: [Q, T]; cached: [Q, K], the same for all questions of a row.
        padded: whether anything is not valid.
    """
    if cached is None or cached.shape[1] == 0:
        if not padded:
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
