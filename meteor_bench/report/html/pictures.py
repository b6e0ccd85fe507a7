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
    """Rows of the questions that say most, from each benchmark in turn: next comes the one whose score changed under
    the settings that have fewest such questions so far."""
    before, settings = questions.score[0], questions.score[1:]
    changed = [
        [at for at, column in enumerate(settings) if column[i] is not None and column[i] != before[i]]
        for i in range(len(questions.task))
    ]
    left = dict.fromkeys(range(len(changed)))
    shown = [0] * len(settings)
    asked = dict.fromkeys(questions.task, 0)
    chosen: list[int] = []
    while left and len(chosen) < count:
        # A question that no setting changed comes after all that some did.
        worth = {i: sum(1 / (1 + shown[at]) ** 2 for at in changed[i]) for i in left}
        best = min(left, key=lambda i: (worth[i] == 0, asked[questions.task[i]], -worth[i], i))
        chosen.append(best)
        del left[best]
        asked[questions.task[best]] += 1
        for at in changed[best]:
            shown[at] += 1
    return chosen


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
    from meteor_bench.lmms.inputs import Inputs
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
            inputs = Inputs.of(record.config)
            documents = documents or [_same(find(f"{s.task}/{s.doc_id}", session, inputs), s) for s in samples]
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
