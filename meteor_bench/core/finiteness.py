"""Whether what a method gives holds: flags on the device at every point of it, read once at the end of a batch.

Who sorts NaN gets any order, and an answer comes of it all the same. What was not finite before the method was asked is
the model's (16-bit weights that overflow), not the method's; the logits tell of that (see `engine.generate`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from meteor_bench.core.decision import Decision
from meteor_bench.core.host import on_device
from meteor_bench.core.tokens import Tokens
from meteor_bench.core.view import View

__all__ = ["Watch"]

NOT_FINITE = "numbers that are not finite (NaN or infinity)"


class Watch(threading.local):
    """Every thread has flags of its own. Outside of `looking` nothing is looked at: latency runs do not pay for it."""

    def __init__(self) -> None:
        self._flags: list[tuple[str, Tensor]] | None = None
        self._sound: Tensor | None = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at everything inside the block."""
        self._flags = []
        try:
            yield
        finally:
            self._flags = self._sound = None

    def before(self, views: Iterable[View]) -> None:
        """Whether what a method is about to see is finite."""
        if self._flags is None:
            return
        seen = [x for view in views for x in (view.tokens.x, vars(view).get("attention")) if x is not None]
        self._sound = torch.stack([x.isfinite().all() for x in seen]).all()

    def after(self, where: str, before: Tokens, decision: Decision, left: Tokens) -> None:
        """Whether what it decided is a number and as many as it says, and what is left of the tokens finite.

        Args:
            where: the point, for the message.
        """
        if self._flags is None or self._sound is None:
            return
        given = (decision.score, decision.weight, decision.mix, decision.order)
        bad = [~left.x.isfinite().all(), *(x.isnan().any() for x in given if x is not None and x.is_floating_point())]
        self._flags.append((f"{NOT_FINITE} at its {where}", torch.stack(bad).any() & self._sound))
        if decision.count is not None:
            # Cut by a count that is not the mask's, a row would end in tokens of the next.
            said = on_device(torch.minimum(decision.count, before.counts()), left.x.device)
            wrong = ((decision.keep & before.visual).sum(1) != said).any()
            self._flags.append((f"another Decision.count than Decision.keep has at its {where}", wrong))

    def read(self) -> str:
        """What the method gave first that is wrong, and where; "" for nothing. Waits for a GPU, then starts afresh."""
        if not self._flags:
            return ""
        found = torch.stack([flag for _, flag in self._flags]).tolist()
        where = next((point for (point, _), bad in zip(self._flags, found, strict=True) if bad), "")
        self._flags = []
        return where
