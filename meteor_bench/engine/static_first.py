"""From the pixels to the first logits over tensors that stay where they are; that can be captured (`core.graphs`).

The encoders, choosing, applying and the prefill are one pass. Batches of one shape (their pictures, and their
questions' lengths) share it: their pixels and ids are written where it reads them. Where a sample's random numbers
went into it, it is that sample's alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from meteor_bench.core.clock import Clock
from meteor_bench.core.graphs import Graphs
from meteor_bench.core.model import PLAIN, Prompt, Scene
from meteor_bench.core.sent import Sent, Stale
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import embed_questions, fuse
from meteor_bench.engine.prefill import Start, begin
from meteor_bench.engine.sequence import IDS, pad
from meteor_bench.utils.plain_text import one_line

__all__ = ["FIRST", "Batch", "captured", "first", "met"]

PACKAGE = Path(__file__).parents[1]
FIRST = "first"  # the stage of all of it, where it is captured


@dataclass(frozen=True)
class Batch:
    """Samples of one shape, each with a question.

    Attributes:
        pixels: [B, F, C, H, W] on the device.
        keys: B strings that identify the samples.
        prompts: B, with equal template heads.
    """

    pixels: Tensor
    keys: tuple[str, ...]
    prompts: Sequence[Prompt]
    scene: Scene = PLAIN


def first(engine: Engine, batch: Batch, room: int) -> Start:
    """Up to the first logits, operation by operation; about ``room`` tokens will come."""
    towered = encode(engine, batch.pixels, batch.keys, batch.scene)
    visual = fuse(engine, towered, text=embed_questions(engine, batch.prompts))
    return begin(engine, visual, range(len(batch.keys)), batch.prompts, room)


class _Static:
    """A pass for all batches of a shape; the results are overwritten by the next."""

    def __init__(self, graphs: Graphs, engine: Engine, batch: Batch, room: int) -> None:
        self._pixels, self.sent = batch.pixels.clone(), Sent()
        own = replace(batch, pixels=self._pixels)
        untimed = Clock(engine.vlm.device, enabled=False)  # a replay has no stages

        def make() -> Start:
            with engine.instrumented(clock=untimed):
                return first(engine, own, room)

        self._run = graphs.result(self.sent, make)

    def start(self, batch: Batch) -> Start:
        """Of a batch of the shape."""
        self._pixels.copy_(batch.pixels)
        ids, _ = pad([prompt.after for prompt in batch.prompts], self._pixels.device)
        self.sent.write(IDS, ids)
        start = self._run()
        return replace(start, traces=[trace.copy() for trace in start.traces])


def captured(graphs: Graphs, engine: Engine, batch: Batch, room: int) -> Start:
    """The same, captured where ``graphs`` does that: the first batch of a shape takes several passes, others one.

    A pass that cannot be captured runs operation by operation; `Graphs.refused` says why.
    """
    shape, own = _names(engine, batch, room)
    static = graphs.kept.get(own, graphs.kept.get(shape))
    if static is None:
        static = _made(graphs, engine, batch, room)
        drawn = isinstance(static, _Static) and static.sent.drawn
        graphs.kept[own if drawn else shape] = static
    if isinstance(static, _Static):
        try:
            with engine.clock.stage(FIRST):
                return static.start(batch)
        except Stale as error:  # only where nothing was captured; a capture of it would have been refused
            static = graphs.kept[shape] = str(error)
    graphs.refused = static
    return first(engine, batch, room)


def met(graphs: Graphs, engine: Engine, batch: Batch, room: int) -> bool:
    """Whether `captured` has nothing left to prepare for a batch."""
    return any(name in graphs.kept for name in _names(engine, batch, room))


def _names(engine: Engine, batch: Batch, room: int) -> tuple[Hashable, Hashable]:
    """What a pass is kept under: for all batches of a shape, or for this one alone."""
    prompts = batch.prompts
    shape = (
        *(FIRST, id(engine), tuple(batch.pixels.shape), batch.scene, room),
        *(prompts[0].before, *(len(prompt.after) for prompt in prompts)),
    )
    return shape, (*shape, batch.keys)


def _made(graphs: Graphs, engine: Engine, batch: Batch, room: int) -> _Static | str:
    """A pass for the batch's shape, or why there is none."""
    try:
        return _Static(graphs, engine, batch, room)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # torch's, of a wait; or what is sent differs from pass to pass
        return f"{one_line(error)} ({_site(error)})"


def _site(error: Exception) -> str:
    """File and line of the innermost frame in this package."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    file, line = next((file, line) for file, line in reversed(frames) if PACKAGE in file.parents)
    return f"{file.relative_to(PACKAGE).as_posix()}, line {line}"
