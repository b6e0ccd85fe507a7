"""Which questions are answered together: of alike length, and several of an image in one row of its cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meteor_bench.core.model import Prompt

if TYPE_CHECKING:
    from meteor_bench.core.request import Request

__all__ = ["Batch", "Question", "batches", "most_at_once"]


@dataclass(frozen=True)
class Question:
    """A request about the image in a row of the encoded ones."""

    row: int
    request: Request
    prompt: Prompt

    @property
    def length(self) -> tuple[int, int]:
        """Tokens to read, tokens to write at most: alike in a batch, little is padded."""
        return len(self.prompt.after), self.request.max_new_tokens


@dataclass(frozen=True)
class Batch:
    """Questions that are answered together.

    Attributes:
        share: so many of them, one after another, are about the same image each time.
    """

    questions: Sequence[Question]
    share: int

    @property
    def rows(self) -> list[int]:
        """The image of each."""
        return [question.row for question in self.questions]

    @property
    def prompts(self) -> list[Prompt]:
        """The prompt of each."""
        return [question.prompt for question in self.questions]

    @property
    def new_tokens(self) -> int:
        """What the longest answer may have."""
        return max(question.request.max_new_tokens for question in self.questions)


def most_at_once(questions: Iterable[Question], width: int, size: int) -> int:
    """How many questions share a row, a power of two.

    In a row every question's tokens meet every other's, to be masked; the more there are, the more of that is wasted.
    Up to as many as the image's own slots it costs less than a copy of those for each question.

    Args:
        width: slots of the cache that hold the image; 0 where nothing is cached.
        size: questions in a batch.
    """
    longest = max((question.length[0] for question in questions), default=1)
    return _power_below(max(1, min(size, width // max(1, longest))))


def batches(questions: Sequence[Question], size: int, most: int = 1) -> Iterator[Batch]:
    """All questions, in batches of at most ``size`` and with as many a row as ``most`` says, a power of two.

    What is left of an image's questions goes in smaller powers of two: rows of a batch hold equally many, and no
    question is asked twice to fill one.
    """
    by_row: dict[int, list[Question]] = {}
    for question in sorted(questions, key=lambda q: q.length):
        by_row.setdefault(question.row, []).append(question)
    by_share: dict[int, list[list[Question]]] = {}
    for own in by_row.values():
        at = 0
        while at < len(own):
            share = min(most, _power_below(len(own) - at))
            by_share.setdefault(share, []).append(own[at : at + share])
            at += share
    for share, groups in sorted(by_share.items()):
        groups.sort(key=lambda group: group[-1].length)
        at_once = max(1, size // share)
        for start in range(0, len(groups), at_once):
            yield Batch([q for group in groups[start : start + at_once] for q in group], share)


def _power_below(n: int) -> int:
    return 1 << (n.bit_length() - 1)
