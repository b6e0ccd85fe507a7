"""Where answers end: at their length, an end token or a stop string, looked for while they are generated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

__all__ = ["Stops", "cut", "is_complete"]

_MORE = 8  # tokens beside one for each character of a stop string: bytes of a character, marks without text


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the strings."""
    for stop in until:
        text = text.split(stop)[0] if stop else text
    return text


def is_complete(text: str, until: Sequence[str]) -> bool:
    """Whether `cut` gives the same whatever follows the text.

    It does not while a string that begins before the one that is there may still become complete.
    """
    kept = len(cut(text, until))
    if kept == len(text):
        return False
    begun = (size for stop in until for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return all(len(text) - size >= kept for size in begun)


class Stops:
    """Which answers of a batch have come to their length, an end token or one of their stop strings.

    The text is that of `Processor.decode`, so that an answer ends exactly where its text would have been cut.

    Args:
        decode: ids -> text.
        until: for each answer its strings.
        eos: ids that end an answer by themselves.
        most: for each answer the tokens that it may have.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        until: Sequence[Sequence[str]],
        eos: Collection[int],
        most: Sequence[int],
    ) -> None:
        self._eos, self._most = eos, most
        self._decode, self._until = decode, [[stop for stop in own if stop] for own in until]
        self._ids: list[list[int]] = [[] for _ in until]
        self._lengths: list[int | None] = [None] * len(until)
        self._near = [False] * len(until)

    def add(self, chosen: Sequence[int]) -> bool:
        """Take the next token of every answer; whether all have ended."""
        for row, token in enumerate(chosen):
            if self._lengths[row] is None:
                self._ids[row].append(token)
                full = len(self._ids[row]) >= self._most[row]
                if full or token in self._eos or (self._until[row] and self._ended(row)):
                    self._lengths[row] = len(self._ids[row])
        return None not in self._lengths

    def length(self, row: int) -> int | None:
        """Tokens of an answer up to where it ended, the end token included; None where it goes on."""
        return self._lengths[row]

    def _ended(self, row: int) -> bool:
        """The whole text is only looked at once a string has been seen in its last tokens."""
        ids, until = self._ids[row], self._until[row]
        if not self._near[row]:
            tail = self._decode(ids[-max(map(len, until)) - _MORE :])
            self._near[row] = any(stop in tail for stop in until)
        return self._near[row] and is_complete(self._decode(ids), until)
