"""A tokenizer without files, for models that are built with random weights and timed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from types import SimpleNamespace

__all__ = ["StandInTokenizer"]

_CHARACTERS = 4  # of English text to a token, roughly


class StandInTokenizer:
    """Every four characters are a token of a fixed, meaningless id; text gets about the length it has for real.

    Args:
        vocabulary: ids are below it; 1 begins and 2 ends a text.
    """

    bos_token_id = 1
    eos_token_id = 2

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        pieces = [text[i : i + _CHARACTERS] for i in range(0, len(text), _CHARACTERS)]
        ids = [3 + zlib.crc32(piece.encode()) % (self.vocabulary - 3) for piece in pieces]
        return SimpleNamespace(input_ids=[self.bos_token_id, *ids] if add_special_tokens else ids)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The ids themselves."""
        return " ".join(str(i) for i in ids if i > 2 or not skip_special_tokens)

    def get_vocab(self) -> dict[str, int]:
        """No token has a name."""
        return {}
