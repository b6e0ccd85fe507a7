"""How far answers are the unpruned model's own, where nobody says what is right (`data.own_pictures`).

Two numbers: whether both answers are the same, whatever their case and punctuation, which is the score; and the ANLS of
the two (A. F. Biten et al., "Scene Text Visual Question Answering", ICCV 2019, section 3): one less their edit distance
by the longer one's length, 0 below a half. Both are as lmms-eval has them for benchmarks with answers.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError
from meteor_bench.core.request import FAILED
from meteor_bench.data import own_questions, suites
from meteor_bench.data.own_pictures import AGREEMENT, LIKENESS
from meteor_bench.lmms.likeness import anls
from meteor_bench.records.schema import SampleRecord

if TYPE_CHECKING:
    from meteor_bench.lmms.evaluate import TaskResult

__all__ = ["Answers", "agreed", "answers_of", "check", "same"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
Answers = Mapping[tuple[str, int], str]


def check(config: RunConfig) -> None:
    """Find out before anything is loaded whether a folder of pictures can be run so.

    Raises:
        ConfigError: it stands beside benchmarks with answers, or the unpruned model is left out.
        DataError: a picture cannot be decoded, and is not to be skipped.
    """
    rows = suites.resolve(config.suite, config.tasks)
    without = [row.task for row in rows if row.metric == AGREEMENT]
    if not without:
        return
    if len(without) < len(rows):
        raise ConfigError(f"{without[0]} has no answers, and agreement and accuracy have no average; run it by itself")
    if config.method != "none" and not config.baseline:
        raise ConfigError(f"{without[0]} has no answers but the unpruned model's; leave --no-baseline out")
    for name in config.tasks if not config.skip_broken else ():
        own_questions.check(name)


def answers_of(samples: Iterable[SampleRecord]) -> Answers:
    """A run's answers by benchmark and document."""
    return {(sample.task, sample.doc_id): sample.answer for sample in samples}


def agreed(result: TaskResult, unpruned: Answers | None) -> TaskResult:
    """A benchmark's answers, scored beside the unpruned model's.

    Args:
        unpruned: its answers; None where these are its own, which agree with themselves.
    """
    samples = []
    for sample in result.samples:
        target = sample["answer"] if unpruned is None else unpruned[sample["task"], sample["doc_id"]]
        score = 0.0 if _failed(sample) else float(same(sample["answer"], target))
        samples.append({**sample, "target": target, "score": score})
    score = _mean([sample["score"] for sample in samples])
    families: dict[str, list[float]] = {}
    for sample in samples:
        if sample["family"]:
            families.setdefault(sample["family"], []).append(sample["score"])
    likeness = [0.0 if _failed(sample) else anls(sample["answer"], sample["target"]) for sample in samples]
    return replace(
        result,
        metrics={AGREEMENT: score, LIKENESS: _mean(likeness)},
        headline=100 * score,
        families={family: 100 * _mean(scores) for family, scores in sorted(families.items())},
        samples=samples,
    )


def same(answer: str, other: str) -> bool:
    """Whether two answers are the same, whatever their case and punctuation."""
    return _plain(answer) == _plain(other)


def _plain(answer: str) -> str:
    return answer.lower().translate(_NO_PUNCTUATION).strip()


def _failed(sample: Mapping[str, Any]) -> bool:
    return any(note.startswith(FAILED) for note in sample["notes"])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
