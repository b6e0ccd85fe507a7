"""One document answered under one setting, watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from meteor_bench.core.session import Answer, Session
from meteor_bench.lmms.document import Document
from meteor_bench.show.film import Film, Point

if TYPE_CHECKING:
    from PIL.Image import Image

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
    film = Film()
    session.engine.recorder = film
    try:
        session.answer([document.request], lambda _, answer: answers.append(answer), batch_size=1)
    finally:
        session.engine.recorder = None
    (answer,) = answers
    points = film.points(session.engine)
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
        frames=frames_of(session, document, max(panel.grid.t for point in points for panel in point.panels)),
    )


def frames_of(session: Session, document: Document, count: int) -> list[Image]:
    """The frames that ``count`` rows of cells lie on.

    The media themselves where there are that many; else (tiles of an image, frames sampled from a clip) what the
    processor made of them, with its normalisation undone as far as brightness goes.
    """
    media = list(document.request.media())
    if len(media) == count:
        return media
    from PIL import Image

    pixels = session.vlm.processor.pixels(media).float().numpy()[:, :3]  # [F, 3, H, W]
    low, high = float(pixels.min()), float(pixels.max())
    scaled = ((pixels - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    return [Image.fromarray(np.moveaxis(frame, 0, -1)) for frame in scaled]
