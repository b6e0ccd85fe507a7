"""Questions with the answers of every setting, as columns with one table of texts: a page holds thousands of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meteor_bench.records.schema import SampleRecord, worded

__all__ = ["MOST", "Questions", "choose", "questions"]

MOST = 6000  # a page with all questions of eleven benchmarks would be slow to open
LONGEST = 1200  # letters of a text


@dataclass(frozen=True)
class Questions:
    """Columns of equal length, a row a question.

    Attributes:
        texts: what ``question``, ``target`` and ``answer`` point into.
        task, doc: which one.
        answer, score, tokens: for each setting (in the page's order) a column: text, 0 to 1, visual tokens left. None
            where a setting was not asked.
        left_out: questions for which there was no room.
    """

    texts: Sequence[str]
    task: Sequence[str]
    doc: Sequence[int]
    question: Sequence[int]
    target: Sequence[int]
    answer: Sequence[Sequence[int | None]]
    score: Sequence[Sequence[float | None]]
    tokens: Sequence[Sequence[int | None]]
    left_out: int = 0


@dataclass
class _Texts:
    """Texts by number, each once."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, value: Any) -> int:
        text = worded(value)
        if len(text) > LONGEST:
            text = text[:LONGEST] + " …"
        return self.numbers.setdefault(text, len(self.numbers))


def questions(runs: Sequence[Iterable[SampleRecord]], most: int = MOST) -> Questions:
    """The questions of several settings.

    Args:
        runs: the samples of each setting, the unpruned one first.
        most: questions kept; those whose score differs between settings before others, in the order of the records.
    """
    rows: dict[tuple[str, int], list[SampleRecord | None]] = {}
    count = len(runs)
    for at, samples in enumerate(runs):
        for sample in samples:
            rows.setdefault((sample.task, sample.doc_id), [None] * count)[at] = sample
    kept = list(rows)
    if len(kept) > most:
        ranked = sorted(range(len(kept)), key=lambda i: (not _differs(rows[kept[i]]), i))
        kept = [kept[i] for i in sorted(ranked[:most])]
    texts = _Texts()
    first = {key: next(s for s in rows[key] if s is not None) for key in kept}
    return Questions(
        task=[task for task, _ in kept],
        doc=[doc for _, doc in kept],
        question=[texts.number(first[key].question) for key in kept],
        target=[texts.number(first[key].target) for key in kept],
        answer=[
            [None if (s := rows[key][at]) is None else texts.number(s.answer) for key in kept] for at in range(count)
        ],
        score=[[None if (s := rows[key][at]) is None else round(s.score, 4) for key in kept] for at in range(count)],
        tokens=[[None if (s := rows[key][at]) is None else _final(s.tokens) for key in kept] for at in range(count)],
        texts=list(texts.numbers),
        left_out=len(rows) - len(kept),
    )


def _differs(samples: Sequence[SampleRecord | None]) -> bool:
    return len({s.score for s in samples if s is not None}) > 1


def _final(tokens: Mapping[str, Any]) -> int | None:
    return tokens.get("final")


def choose(questions: Questions, count: int) -> list[int]:
    """Rows of the questions that say most, from each benchmark in turn.

    Next comes the one whose score changed under the settings that have fewest such questions so far.
    """
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
