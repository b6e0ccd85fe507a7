"""What latency runs are asked: shipped pictures with their questions, or noise for models with random weights."""

from __future__ import annotations

from collections import Counter
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from meteor_bench.core.errors import ConfigError
from meteor_bench.data.calibration import calibration_items

if TYPE_CHECKING:
    from meteor_bench.core.request import Request
    from meteor_bench.engine.session import Session

__all__ = ["QUESTION", "noise", "shipped"]

QUESTION = "What is shown in the picture, where does it stand, and what is written on it? Answer with one sentence."


def shipped(session: Session, batch: int, frames: int, count: int) -> list[Request]:
    """``count`` batches of calibration samples, one batch after another (fewer if there are no more).

    The prompts of a batch are equally long, so that nothing is padded.

    Args:
        frames: pictures of a sample.

    Raises:
        ConfigError: there are not enough such samples for one batch.
    """
    from meteor_bench.core.request import Request

    groups: dict[int, list[Request]] = {}
    lengths: Counter[int] = Counter()
    for item in calibration_items():
        pictures = len(item.media())
        lengths[pictures] += 1
        if pictures == frames:
            text = len(session.vlm.processor.prompt(item.question).after)
            groups.setdefault(text, []).append(Request(item.key, item.media_key, item.media, item.question, 1))
    batches = [[group[i : i + batch] for i in range(0, len(group) - batch + 1, batch)] for group in groups.values()]
    # A batch of each length in turn.
    mixed = [chosen for turn in zip_longest(*batches) for chosen in turn if chosen]
    if not mixed:
        known = ", ".join(f"{n} with --frames {pictures}" for pictures, n in sorted(lengths.items()))
        raise ConfigError(
            f"no {batch} shipped samples of {frames} pictures have questions of equal length; there are {known}; "
            "take a smaller --batch, or --random-weights, which draws noise"
        )
    return list(chain.from_iterable(mixed[:count]))


def noise(
    session: Session, count: int, frames: int, seed: int = 0, size: tuple[int, int] | None = None
) -> list[Request]:
    """Samples of random pictures, all with one question.

    Args:
        size: height and width in pixels; None for the model's own.
    """
    import numpy as np
    from PIL import Image

    from meteor_bench.core.model import Clip
    from meteor_bench.core.request import Request

    height, width = size or session.vlm.native
    draw = np.random.default_rng(seed)

    def request(i: int) -> Request:
        pixels = draw.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
        pictures = [Image.fromarray(frame) for frame in pixels]
        media = Clip(pictures) if frames > 1 else pictures
        return Request(f"noise/{i}", f"noise/{i}", lambda: media, QUESTION, 1)

    return [request(i) for i in range(count)]
