"""Kept patches of a few questions, by running every setting on them again and watching."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meteor_bench.errors import DataError
from meteor_bench.progress import track
from meteor_bench.records import RunRecord, SampleRecord
from meteor_bench.report.html.samples import Questions

if TYPE_CHECKING:
    from PIL.Image import Image

    from meteor_bench.lmms.document import Document
    from meteor_bench.show.watch import Shown

__all__ = ["choose", "draw"]

SIDE = 320  # pixels of a frame's longer side on the page


def choose(questions: Questions, count: int) -> list[int]:
    """Rows of the questions that say most: those that about half of the settings lost or gained, from each benchmark
    in turn."""
    by_task: dict[str, list[int]] = {}
    for i, task in enumerate(questions.task):
        by_task.setdefault(task, []).append(i)
    settings = max(1, len(questions.score) - 1)

    def dullness(i: int) -> float:
        changed = sum(column[i] is not None and column[i] != questions.score[0][i] for column in questions.score[1:])
        return abs(changed / settings - 0.5) if changed else 1.0

    ranked = [sorted(rows, key=lambda i: (dullness(i), i)) for rows in by_task.values()]
    turns = [rows[turn] for turn in range(max(map(len, ranked), default=0)) for rows in ranked if turn < len(rows)]
    flipped = [i for i in turns if dullness(i) < 1.0]
    return [*flipped, *(i for i in turns if dullness(i) == 1.0)][:count]


def draw(records: Sequence[RunRecord], samples: Sequence[SampleRecord]) -> list[dict[str, Any]]:
    """What the page needs to draw questions: frames, and for each setting what is left at each point.

    Args:
        records: the runs of the settings, in the page's order.
        samples: the questions, as the first of the runs recorded them.

    Raises:
        DataError: the data here are not those of the records.
        MeteorBenchError: a model or a method cannot be built here.
    """
    from meteor_bench.lmms.document import find
    from meteor_bench.shared import Shared, calibration, quiet_libraries
    from meteor_bench.show.command import named
    from meteor_bench.show.watch import watch

    pictures: list[dict[str, Any]] = [{"task": s.task, "doc": s.doc_id, "frames": [], "settings": {}} for s in samples]
    documents: list[Document] = []
    quiet_libraries()
    models = Shared()
    with track("pictures", len(records) * len(samples)) as update:
        for at, record in enumerate(records):
            session = models.blueprint(replace(record.config, device="auto")).session(calibration)
            documents = documents or [_same(find(f"{s.task}/{s.doc_id}", session), s) for s in samples]
            for i, document in enumerate(documents):
                shown = watch(session, document, named(record.config))
                pictures[i]["settings"][at] = _plain(shown)
                pictures[i]["frames"] = pictures[i]["frames"] or [_uri(frame) for frame in shown.frames]
                update(at * len(samples) + i + 1)
    return pictures


def _same(document: Document, sample: SampleRecord) -> Document:
    if (document.request.question, document.request.media_key) != (sample.question, sample.media_key):
        raise DataError(
            f"{document.name}: the data here are not those that the runs were made on; leave --pictures out"
        )
    return document


def _plain(shown: Shown) -> Mapping[str, Any]:
    points = [
        {"stage": point.stage, "title": point.title, "panels": [vars(panel) for panel in point.panels]}
        for point in shown.points
    ]
    return {"answer": shown.answer, "points": points}


def _uri(frame: Image) -> str:
    picture = frame.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
