"""Kept patches of a few questions, by running every setting on them again and watching."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meteor_bench.core.errors import DataError
from meteor_bench.records.schema import RunRecord, SampleRecord
from meteor_bench.utils.progress import track

if TYPE_CHECKING:
    from PIL.Image import Image

    from meteor_bench.lmms.document import Document
    from meteor_bench.runs.patches.trace_sample import Shown

__all__ = ["draw"]

SIDE = 320  # pixels of a frame's longer side on the page


def draw(records: Sequence[RunRecord], samples: Sequence[SampleRecord]) -> list[dict[str, Any]]:
    """What the page needs to draw questions: frames, and for each setting what is left at each point.

    Args:
        records: the runs of the settings, in the page's order.
        samples: the questions, as the first of the runs recorded them.

    Raises:
        DataError: the data here are not those of the records.
        MeteorBenchError: a model or a method cannot be built here.
    """
    from meteor_bench.data.calibration import calibration_requests
    from meteor_bench.data.suites import resolve
    from meteor_bench.lmms.document import find
    from meteor_bench.lmms.inputs import Inputs
    from meteor_bench.runs.model_cache import ModelCache
    from meteor_bench.runs.patches.command import named
    from meteor_bench.runs.patches.trace_sample import watch
    from meteor_bench.utils.environment import quiet_libraries

    pictures: list[dict[str, Any]] = [{"task": s.task, "doc": s.doc_id, "frames": [], "settings": {}} for s in samples]
    documents: list[Document] = []
    quiet_libraries()
    models = ModelCache()
    with track("pictures", len(records) * len(samples)) as update:
        for at, record in enumerate(records):
            session = models.blueprint(replace(record.config, device="auto")).session(calibration_requests)
            inputs = Inputs.of(record.config)
            resolve(record.config.suite, record.config.tasks)  # files of questions get their names
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
