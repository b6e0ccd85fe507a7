"""Requests on their way to the model: media decoded and scaled, questions tokenised, images of equal shape together.

Nothing here runs the model, so that a thread can be ahead of it (`engine.prefetch`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from meteor_bench.core.errors import MediaError, UnsupportedError
from meteor_bench.core.processing import PLAIN, Clip, Look, Prompt
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.request import Request
from meteor_bench.engine.engine import Engine
from meteor_bench.utils.plain_text import one_line

__all__ = ["Prepared", "by_shape", "look_at", "prepare"]

_NOTHING = Look(torch.empty(0), PLAIN)  # what a question without a picture shows
SHORT = 4  # frames of a clip that is treated as an image is; longer ones are in memory alone


class Prepared(NamedTuple):
    """An image with the questions about it, as the engine takes them.

    Attributes:
        alone: it is a long video, of which no second one is in memory.
    """

    requests: list[Request]
    look: Look
    prompts: list[Prompt]
    alone: bool


def prepare(engine: Engine, pruner: Pruner, group: list[Request]) -> Prepared:
    """Decode and scale an image, tokenise its questions: all that needs no model.

    Args:
        pruner: the method as the user gave it, for messages.
        group: questions about the same image.
    """
    media, processor = group[0].media(), engine.vlm.processor
    if not media:
        texts = [Prompt((), processor.words(request.question)) for request in group]
        return Prepared(group, _NOTHING, texts, False)
    prompts = [processor.prompt(request.question) for request in group]
    look = look_at(engine, pruner, group[0], media)
    return Prepared(group, look, prompts, isinstance(media, Clip) and len(media) > SHORT)


def look_at(engine: Engine, pruner: Pruner, request: Request, media: Sequence[Any]) -> Look:
    """The processor's tensors; what it (mostly the library's) says of media that it cannot take names the row.

    Raises:
        MediaError: the model cannot take them.
    """
    vlm = engine.vlm
    try:
        look = vlm.processor.look(media)
        frames, _, *side = look.pixels.shape
        grid = vlm.grid(frames, *side)
        mixed = vlm.at(look.scene).towers is not vlm.towers
        if mixed and engine.input_grid(grid) not in (None, grid):
            raise UnsupportedError(f"{type(pruner).__name__} cannot shrink images of unequal size together")
        return look
    except (ArithmeticError, LookupError, RuntimeError, TypeError, UnsupportedError, ValueError) as error:
        task, _, row = request.key.partition("/")
        sizes = ", ".join(f"{one.width}x{one.height}" for one in media[:4])
        said = one_line(error)
        raise MediaError(
            f"{task}: row {row}: '{vlm.name}' cannot take its pictures ({sizes} pixels): {said}",
            request.media_key,
        ) from error


def by_shape(images: Iterable[Prepared], at_once: int) -> Iterator[list[Prepared]]:
    """So many images at a time, those of equal shape together, each long video alone, when it is its turn."""
    shapes: dict[tuple[object, ...], list[Prepared]] = {}
    waiting = 0
    for ready in images:
        if ready.alone:
            alone = [ready]
            del ready  # whoever empties the list holds the last of it
            yield alone
            continue
        shapes.setdefault((ready.look.pixels.shape, ready.look.scene), []).append(ready)
        del ready
        waiting += 1
        if waiting == at_once:
            yield from shapes.values()
            shapes, waiting = {}, 0
    yield from shapes.values()
