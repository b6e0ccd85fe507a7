"""The calibration set: questions on which methods measure their constants, in no benchmark and in no training."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meteor_bench.core.request import Request
from meteor_bench.data.shipped import check_data, tasks_dir

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["CalibrationItem", "calibration_digest", "calibration_items", "calibration_requests"]


class CalibrationItem(NamedTuple):
    """A question of the calibration set: the parts of a request, and its answer.

    Attributes:
        key: unique.
        media_key: the same for questions that share a picture.
        media: decodes the picture, or the frames of the clip.
        question: the prompt.
        answer: the true answer, where it has one the chain included.
        task: the benchmark whose kind of question it is.
    """

    key: str
    media_key: str
    media: Callable[[], Sequence[Image]]
    question: str
    answer: str
    task: str


@cache
def calibration_digest() -> str:
    """SHA-256 of the calibration data, checked; part of what a calibrated constant depends on.

    Raises:
        DataError: the data are missing or corrupted.
    """
    return check_data(_calibration_folder())


def calibration_items(tasks: Iterable[str] | None = None) -> list[CalibrationItem]:
    """The calibration set, disjoint from every benchmark and from training, in a fixed order.

    Args:
        tasks: only questions of these benchmarks' kinds; None for all.

    Raises:
        DataError: the data are missing or corrupted.
    """
    calibration_digest()
    wanted = None if tasks is None else set(tasks)
    return [
        CalibrationItem(
            key=f"calibration/{row['question_id']}",
            media_key=row["media_key"],
            media=partial(_frames, row["image"]["bytes"], row["frames"]),
            question=row["question"],
            answer=f"{row['chain']} {row['answer']}".strip(),
            task=row["benchmark"],
        )
        for row in _rows(_calibration_folder())
        if wanted is None or row["benchmark"] in wanted
    ]


def calibration_requests() -> list[Request]:
    """The calibration set as the engine takes it: methods measure their constants on it, and nothing is answered."""
    return [
        Request(item.key, item.media_key, item.media, item.question, max_new_tokens=1) for item in calibration_items()
    ]


def _calibration_folder() -> Path:
    return tasks_dir() / "calibration" / "data"


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as parquet

    for file in sorted(folder.glob("*.parquet")):
        yield from parquet.read_table(file).to_pylist()


def _frames(png: bytes, count: int) -> list[Image]:
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    width = picture.width // count
    return [picture.crop((i * width, 0, (i + 1) * width, picture.height)) for i in range(count)]
