"""Images run as far as their questions share it: encoders always, fusion and prefix where no question has a say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from meteor_bench.engine.batches import Batch, Question, batches, most_at_once
from meteor_bench.engine.encode import Towered, encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import Visual, embed_questions, fuse
from meteor_bench.engine.gauge import Shape, shape_of
from meteor_bench.engine.prefill import Prefix, prefix
from meteor_bench.engine.prepare import Prepared
from meteor_bench.engine.text_only import blank

__all__ = ["Images", "run_images"]


@dataclass(frozen=True)
class Images:
    """Some images after encoding: their questions, and what those share (None: fusion depends on the question).

    Without pictures nothing was encoded, there is no shape, and the engine is one that asks no method.
    """

    questions: list[Question]
    towered: Towered | None
    shared: Visual | Prefix | None
    engine: Engine
    shape: Shape | None

    def batches(self, size: int) -> Iterator[Batch]:
        """The questions in batches of that size."""
        width = self.shared.width if isinstance(self.shared, Prefix) else 0
        return batches(self.questions, size, most_at_once(self.questions, width, size))

    def shared_for(self, batch: Batch) -> tuple[Visual | Prefix, Sequence[int]]:
        """What a batch of questions extends, and the row of each in it."""
        if self.shared is not None:
            return self.shared, batch.rows
        assert self.towered is not None  # what was encoded is not shared
        # Fusion for a method whose choice depends on the question.
        text = embed_questions(self.engine, batch.prompts)
        return fuse(self.engine, self.towered, batch.rows, text), range(len(batch.questions))


def run_images(engine: Engine, members: list[Prepared], reuse: bool, release: Callable[[], None] | None) -> Images:
    """Encode images of equal shape and run what their questions share; ``release`` a long video, if it is done.

    Args:
        members: emptied, so that nobody holds the pixels any longer.
        reuse: run the prompt's beginning once for all questions of an image.
    """
    vlm = engine.vlm
    questions = [
        Question(row, request, prompt)
        for row, ready in enumerate(members)
        for request, prompt in zip(ready.requests, ready.prompts, strict=True)
    ]
    keys, scene, alone = [m.requests[0].media_key for m in members], members[0].look.scene, members[0].alone
    shape = shape_of(members[0].look)
    pixels = torch.stack([ready.look.pixels for ready in members])
    members.clear()
    if pixels.numel() == 0:
        return Images(questions, None, blank(engine, keys), engine, None)
    try:
        towered = encode(engine, pixels.to(vlm.device, vlm.dtype), keys, scene)
    finally:
        del pixels
        if alone and release is not None:
            release()
    if engine.points.fuse is not None and engine.points.fuse.text:
        return Images(questions, towered, None, engine, shape)
    visual = fuse(engine, towered)
    shared = prefix(engine, visual, questions[0].prompt.before) if reuse else visual
    return Images(questions, towered, shared, engine, shape)
