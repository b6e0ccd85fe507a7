"""One document answered under one setting, watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from meteor_bench.core.request import Answer
from meteor_bench.engine.session import Session
from meteor_bench.lmms.document import Document
from meteor_bench.runs.patches.recorder import PatchRecorder, Point

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["Shown", "frames_of", "watch"]


@dataclass(frozen=True)
class Shown:
    """What a setting made of a document.

    Attributes:
        label: "fastv 0.76".
        model: row of the model table that ran.
        answer: what is scored; ``raw`` what was generated.
        score: 0 to 1.
        tokens: columns of the token table.
        points: what is left after each point, in order.
        towers: the model's encoders.
        frames: the picture, or the clip's frames, as the model looks at them.
    """

    label: str
    model: str
    answer: str
    raw: str
    score: float
    tokens: Mapping[str, Any]
    notes: Sequence[str]
    points: Sequence[Point]
    towers: Sequence[str]
    frames: Sequence[Image]

    @property
    def removed(self) -> float:
        """Share of the reference model's visual tokens that is gone after the last point."""
        return 1 - float(self.tokens["final"]) / float(self.tokens["reference"])


def watch(session: Session, document: Document, label: str) -> Shown:
    """Let a session answer a document; the engine's recorder is lifted again afterwards."""
    answers: list[Answer] = []
    media = document.request.media()  # once: a video takes seconds
    request = replace(document.request, media=lambda: media)
    recorder = PatchRecorder()
    with session.engine.instrumented(recorder=recorder):
        session.answer([request], lambda _, answer: answers.append(answer), batch_size=1)
    (answer,) = answers
    look = session.vlm.processor.look(media)
    engine = session.engine_for(look, session.vlm.processor.prompt(request.question))
    points = recorder.points(engine, look.scene)
    scored = document.score(answer.text)
    return Shown(
        label=label,
        model=session.vlm.name,
        answer=scored.answer,
        raw=answer.text,
        score=scored.score,
        tokens=answer.tokens,
        notes=answer.notes,
        points=points,
        towers=tuple(session.vlm.towers),
        frames=frames_of(media, look.pixels),
    )


def frames_of(media: Sequence[Image], pixels: Tensor) -> list[Image]:
    """The pictures that the rows of cells lie on, one for each row of pixels.

    The media themselves where the model looks at them whole; where it crops, pads, stretches, samples or cuts into
    tiles, what the processor made of them, with its normalisation undone as far as brightness goes.

    Args:
        pixels: [F, C, H, W].
    """
    height, width = pixels.shape[-2:]
    if len(media) == len(pixels) and all(abs(m.width * height / (m.height * width) - 1) < 0.02 for m in media):
        return list(media)
    from PIL import Image

    seen = pixels[:, :3].float()
    scaled = (seen - seen.min()) / (seen.max() - seen.min()).clamp(min=1e-6) * 255
    return [Image.fromarray(frame.byte().permute(1, 2, 0).cpu().numpy()) for frame in scaled]
