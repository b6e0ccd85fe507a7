"""Whether numbers stay finite: flags on the device at every point of a method, read once at the end of a batch.

Who sorts NaN gets any order, and an answer comes of it all the same. What was not finite before the method was asked is
the model's (16-bit weights that overflow), not the method's; the logits tell of that (see `engine.generate`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch
from torch import Tensor

from meteor_bench.core.tokens import Tokens
from meteor_bench.core.view import Decision, View

__all__ = ["Watch"]


class Watch(threading.local):
    """Every thread has flags of its own. Until it has begun, nothing is looked at: latency runs do not pay for it."""

    def __init__(self) -> None:
        self._flags: list[tuple[str, Tensor]] | None = None
        self._sound: Tensor | None = None

    def begin(self) -> None:
        """Look at everything from now on."""
        self._flags = []

    def before(self, views: Iterable[View]) -> None:
        """Whether what a method is about to see is finite."""
        if self._flags is None:
            return
        seen = [x for view in views for x in (view.tokens.x, vars(view).get("attention")) if x is not None]
        self._sound = torch.stack([x.isfinite().all() for x in seen]).all()

    def after(self, where: str, decision: Decision | None, left: Tokens) -> None:
        """Whether what it decided is a number, and what is left of the tokens finite.

        Args:
            where: the point, for the message.
        """
        if self._flags is None or self._sound is None:
            return
        bad = [~left.x.isfinite().all()]
        if decision is not None:
            given = (decision.score, decision.weight, decision.mix, decision.order)
            bad += [x.isnan().any() for x in given if x is not None and x.is_floating_point()]
        self._flags.append((where, torch.stack(bad).any() & self._sound))

    def read(self) -> str:
        """The first point where something was not finite, "" where all was; waits for a GPU, then starts afresh."""
        if not self._flags:
            return ""
        found = torch.stack([flag for _, flag in self._flags]).tolist()
        where = next((point for (point, _), bad in zip(self._flags, found, strict=True) if bad), "")
        self._flags = []
        return where
