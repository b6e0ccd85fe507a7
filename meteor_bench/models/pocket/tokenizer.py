"""Text to ids and back for the pocket models: words in lower case, string characters in upper case."""

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer


class PocketTokenizer:
    """A word-level tokenizer. Every upper-case letter and every digit is a token of its own."""

    def __init__(self, path: str | Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._special = {name: i for name, i in self._tokenizer.get_vocab().items() if name.startswith("<")}
        self.bos_id = self._special["<bos>"]
        self.eos_id = self._special["<eos>"]
        self.question_id = self._special["<q>"]
        self.answer_id = self._special["<a>"]
        self.unk_id = self._special["<unk>"]
        self.encode_cached = lru_cache(maxsize=1 << 16)(self._encode)

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def id_of(self, word: str) -> int:
        index = self._tokenizer.token_to_id(word)
        if index is None:
            raise KeyError(word)
        return int(index)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)

    def encode(self, text: str) -> list[int]:
        """Ids without special tokens."""
        return list(self.encode_cached(text))

    def decode(self, ids: list[int]) -> str:
        """Words joined by spaces, neighbouring characters without; special tokens are left out."""
        text, after_char = "", False
        for index in ids:
            token = self._tokenizer.id_to_token(int(index))
            if token is None or token in self._special:
                continue
            is_char = len(token) == 1 and (token.isupper() or token.isdigit())
            text += token if not text or (is_char and after_char) else f" {token}"
            after_char = is_char
        return text
