"""A question to a model and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FAILED", "Answer", "Request"]

FAILED = "failed: "
"""Begins the note of a sample that was not answered: its picture cannot be read, or the numbers overflowed."""


@dataclass(frozen=True)
class Request:
    """One question about one image or clip.

    Attributes:
        key: unique, say "pocket_gqa/17".
        media_key: equal for requests that share their image or clip; also seeds a method's random numbers.
        media: decodes it: the RGB PIL images, one for an image, the frames of a clip, none for a
            question alone.
        question: the whole prompt, without the model's template.
        until: the answer ends before the first of these strings.
    """

    key: str
    media_key: str
    media: Callable[[], Sequence[Any]]
    question: str
    max_new_tokens: int
    until: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        tokens: the columns of `SampleTrace.as_record`.
        latency_ms: this request's share of its batch's time, by stage; shared work is divided, so this is not the
            latency of a request alone (see `runs.latency.interleave`).
        flops: stage -> FLOPs of this request run alone.
        notes: substitutions that the engine made; alone, beginning with `FAILED`, why there is no answer.
    """

    text: str
    tokens: dict[str, Any]
    latency_ms: dict[str, float] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
