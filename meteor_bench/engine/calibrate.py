"""Constants that a method needs and its authors measured offline: METEOR's ranks, its lambda.

Measured on calibration samples that are never evaluated, stage by stage, each with the facts of the stages before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Pruner, View
from meteor_bench.core.request import Request
from meteor_bench.engine.encode import encode
from meteor_bench.engine.fuse import fuse as fuse_towers
from meteor_bench.engine.match_budget import short
from meteor_bench.engine.session import Session

__all__ = ["calibrate"]

ORDER = ("encode", "fuse", "decode")


class _Watch:
    """Collects a stage's observations; nothing is pruned at that stage (from point ``step`` on) or after it."""

    def __init__(self, pruner: Pruner, stage: str, step: int | None) -> None:
        self.pruner, self.stage, self.step = pruner, stage, step
        self.requests = 1
        self.seen: dict[str, list[Tensor]] = {}
        self.weight: dict[str, list[Tensor]] = {}

    def __call__(self, view: View) -> bool:
        kind = view.stage
        if kind == self.stage and self.step is not None and view.point < self.step:
            return False
        if kind == self.stage and self.step in (None, view.point):
            for name, values in self._observe(view).items():
                self.seen.setdefault(name, []).append(values)
                self.weight.setdefault(name, []).append(torch.full((len(values),), self.requests))
        return ORDER.index(kind) >= ORDER.index(self.stage)

    def _observe(self, view: View) -> Mapping[str, Tensor]:
        hooks: Mapping[str, Callable[[Any], Mapping[str, Tensor]]] = {
            "encode": self.pruner.observe_encode,
            "fuse": self.pruner.observe_fuse,
            "decode": self.pruner.observe_decode,
        }
        return hooks[view.stage](view)

    def gathered(self) -> dict[str, Tensor]:
        """Name -> all rows of all batches; "requests", how many share each row's image."""
        found = {name: _stacked(parts) for name, parts in self.seen.items()}
        if found:
            found["requests"] = torch.cat(next(iter(self.weight.values())))
        return found


def _stacked(parts: list[Tensor]) -> Tensor:
    """[B] or [B, n] tensors one under another, short rows filled up with NaN."""
    width = max(part.shape[-1] for part in parts)
    if parts[0].ndim == 1 or all(part.shape[1] == width for part in parts):
        return torch.cat(parts)
    pad = torch.nn.functional.pad
    return torch.cat([pad(part.double(), (0, width - part.shape[1]), value=torch.nan) for part in parts])


def calibrate(
    vlm: VLM,
    pruner: Pruner,
    budget: TokenBudget,
    requests: Sequence[Request],
    *,
    positions: str | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> Mapping[str, Any]:
    """Facts of a method at a budget, {} when it needs none."""
    facts: dict[str, Any] = {}
    pruner = pruner.bind(vlm, budget)
    points = pruner.points(vlm, budget)
    asked = {"encode": len(points.encode), "fuse": int(points.fuse is not None), "decode": len(points.decode)}
    for stage in pruner.calibration:
        for step in range(asked[stage]) if pruner.stepwise else (None,):
            watch = _Watch(pruner, stage, step)
            session = Session(vlm, pruner, budget, positions=positions, seed=seed, facts=facts)
            with session.engine.instrumented(observer=watch):
                if stage == "decode":
                    session.answer([short(r) for r in requests], lambda _request, _answer: None, batch_size)
                else:
                    _encode_only(session, requests, watch, fuse=stage == "fuse")
            facts |= pruner.fit(stage, watch.gathered())
    return facts


@torch.inference_mode()
def _encode_only(session: Session, requests: Sequence[Request], watch: _Watch, *, fuse: bool) -> None:
    """Each distinct image once, no further than the stage needs."""
    vlm, sharing = session.vlm, Counter(r.media_key for r in requests)
    for request in {r.media_key: r for r in requests}.values():
        watch.requests = sharing[request.media_key]
        look = vlm.processor.look(request.media())
        pixels = look.pixels[None].to(vlm.device, vlm.dtype)
        towered = encode(session.engine, pixels, [request.media_key], look.scene)
        if fuse:
            fuse_towers(session.engine, towered)
