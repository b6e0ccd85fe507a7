"""What tables need of a run's samples, without reading them.

`records.run_folder` writes it beside the samples and keeps the two in step; `results/README.md` explains it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meteor_bench.records.schema import SampleRecord, Spread

__all__ = ["ScoreRecord", "TaskScores", "summarise"]


@dataclass(frozen=True)
class TaskScores:
    """One benchmark's samples as columns of equal length, in the order of their documents.

    Attributes:
        doc_id: indices of the documents.
        media: number of the image or video; equal numbers, in whatever benchmark, are the same one.
        score: 0 to 1.
    """

    doc_id: tuple[int, ...]
    media: tuple[int, ...]
    score: tuple[float, ...]


@dataclass(frozen=True)
class ScoreRecord:
    """A summary of a run's samples.

    Attributes:
        samples: SHA-256 of the file of samples that it was made of.
        tasks: benchmark -> its columns.
        removed: share of the visual tokens that was removed, over the samples.
        notes: substitution that the engine made -> samples it made it on.
    """

    samples: str
    tasks: Mapping[str, TaskScores]
    removed: Spread | None
    notes: Mapping[str, int]


def summarise(samples: Iterable[SampleRecord], digest: str) -> ScoreRecord:
    """The summary of a run's samples.

    Args:
        digest: SHA-256 of the file that holds them.
    """
    ordered = sorted(samples, key=lambda s: s.doc_id)
    by_task: dict[str, list[SampleRecord]] = {}
    for sample in ordered:
        by_task.setdefault(sample.task, []).append(sample)
    media: dict[str, int] = {}
    tasks = {
        task: TaskScores(
            doc_id=tuple(s.doc_id for s in rows),
            media=tuple(media.setdefault(s.media_key, len(media)) for s in rows),
            score=tuple(float(f"{s.score:.7g}") for s in rows),  # as the samples are stored
        )
        for task, rows in sorted(by_task.items())
    }
    notes = Counter(note for s in ordered for note in s.notes)
    return ScoreRecord(digest, tasks, _removed(ordered), dict(notes))


def _removed(samples: Iterable[SampleRecord]) -> Spread | None:
    shares = [1 - s.tokens["final"] / s.tokens["reference"] for s in samples if s.tokens.get("reference")]
    if not shares:
        return None
    values = (statistics.fmean(shares), min(shares), max(shares), statistics.pstdev(shares))
    return Spread(*(float(f"{value:.7g}") for value in values))
