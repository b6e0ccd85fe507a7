"""A checkpoint's tokenizer.model read by sentencepiece itself, as the slow tokenizer of Llama reads it.

EAGLE's authors load their tokenizers with ``use_fast=False`` (transformers 4.37, `LlamaTokenizer`). What transformers
5 makes of such a file leaves the scores of its pieces out and puts "▁" after marks whatever the file says, so that
other ids come of the same text. Here the text is cut at the marks (<s>, <|im_start|>, <image>, ...) and each stretch
between them is encoded by the model in the file:

- ``legacy: true`` (or not said): as the file's own normaliser has it, which puts "▁" before a stretch or does not.
- ``legacy: false``: one "▁" at the beginning of the text, none behind marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sentencepiece import SentencePieceProcessor
from transformers import BatchEncoding

from meteor_bench.core.errors import ModelError
from meteor_bench.models.locate import read_object

__all__ = ["PieceTokenizer", "piece_tokenizer"]

SPACE = "▁"
MODEL = "tokenizer.model"
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class _Mark(NamedTuple):
    """A token that is never cut.

    Attributes:
        special: left out of answers.
        left, right: whether it takes the white space before and behind it.
    """

    number: int
    special: bool
    left: bool = False
    right: bool = False


def piece_tokenizer(folder: Path) -> PieceTokenizer | None:
    """The tokenizer of a folder that has tokenizer.model and no tokenizer.json; None for any other.

    Raises:
        ModelError: the files cannot be read or do not belong together.
    """
    if not (folder / MODEL).exists() or (folder / "tokenizer.json").exists():
        return None
    about = {**_object(folder / "special_tokens_map.json"), **_object(folder / "tokenizer_config.json")}
    return PieceTokenizer(folder / MODEL, about, _object(folder / "added_tokens.json"))


def _object(file: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    return read_object(file) if file.exists() else {}


class PieceTokenizer:
    """See the top of the file; it is called as the library's tokenizers are.

    Args:
        file: tokenizer.model.
        about: what tokenizer_config.json and special_tokens_map.json say.
        added: text -> id, what added_tokens.json says.

    Raises:
        ModelError: the file is no model, or a mark is described in a way that makes no sense.
    """

    def __init__(self, file: Path, about: Mapping[str, Any], added: Mapping[str, Any]) -> None:
        self.name, self._about, self._model = str(file), about, SentencePieceProcessor()
        try:
            self._model.load_from_serialized_proto(file.read_bytes())
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{file} holds no tokenizer: {' '.join(str(error).split())[:200]}") from error
        self.legacy = self._flag("legacy", True)
        self._prefix = SPACE if not self.legacy and self._flag("add_prefix_space", True) else ""
        if not self.legacy:
            self._model.override_normalizer_spec(add_dummy_prefix=False)
        named = {name: _text(about.get(name, DEFAULTS.get(name)), name, self.name) for name in NAMED}
        self._marks = self._found_marks(named, added)
        self._names = {mark.number: text for text, mark in self._marks.items()}
        # Longest first: a mark may begin with another.
        texts = sorted(self._marks, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, texts))) if texts else None
        self.bos_token, self.eos_token, self._unknown = named["bos_token"], named["eos_token"], named["unk_token"]
        self.bos_token_id = None if self.bos_token is None else self._marks[self.bos_token].number
        self.eos_token_id = None if self.eos_token is None else self._marks[self.eos_token].number
        self._begins, self._ends = self._flag("add_bos_token", True), self._flag("add_eos_token", False)

    def _flag(self, key: str, default: bool) -> bool:
        value = self._about.get(key)
        if value is not None and not isinstance(value, bool):
            raise ModelError(f"tokenizer_config.json beside {self.name} has {key}={value!r}; expected true or false")
        return default if value is None else value

    def _found_marks(self, named: Mapping[str, str | None], added: Mapping[str, Any]) -> dict[str, _Mark]:
        """Text -> mark: those with an id of their own, then the named ones, which may have to be given one."""
        marks: dict[str, _Mark] = {}
        for name, number in added.items():
            marks[name] = _Mark(_number(number, name, "added_tokens.json"), special=False)
        listed = self._about.get("added_tokens_decoder") or {}
        if not isinstance(listed, Mapping):
            raise ModelError(f"tokenizer_config.json beside {self.name} has an added_tokens_decoder that is no object")
        for number, entry in listed.items():
            if text := _text(entry, "added_tokens_decoder", self.name):
                marks[text] = _mark(entry, _number(number, text, "added_tokens_decoder"))
        more = self._about.get("additional_special_tokens") or []
        if not isinstance(more, list):
            raise ModelError(f"tokenizer_config.json beside {self.name} has additional_special_tokens that are no list")
        entries = [self._about.get(name, said) for name, said in named.items() if said]
        for entry in [*entries, *more]:
            if text := _text(entry, "additional_special_tokens", self.name):
                mark = marks[text] if text in marks else _mark(entry, self._own(text, marks))
                marks[text] = mark._replace(special=True)
        return marks

    def _own(self, text: str, marks: Mapping[str, _Mark]) -> int:
        """The id of a piece of the model, else the next one that is free."""
        number = int(self._model.piece_to_id(text))
        if self._model.id_to_piece(number) == text:
            return number
        return max([self._model.get_piece_size() - 1, *(mark.number for mark in marks.values())]) + 1

    def get_vocab(self) -> dict[str, int]:
        """Text of every piece and mark -> id."""
        own = {self._model.id_to_piece(i): i for i in range(self._model.get_piece_size())}
        return own | {text: mark.number for text, mark in self._marks.items()}

    def __call__(self, text: str, add_special_tokens: bool = True) -> BatchEncoding:
        """The ids of a text, under "input_ids"."""
        ids = list(self._ids(text))
        if add_special_tokens and self._begins and self.bos_token_id is not None:
            ids = [self.bos_token_id, *ids]
        if add_special_tokens and self._ends and self.eos_token_id is not None:
            ids = [*ids, self.eos_token_id]
        return BatchEncoding({"input_ids": ids})

    def _ids(self, text: str) -> Iterator[int]:
        if self._prefix and text:
            text = text.replace(SPACE, " ")
            # A mark that begins the text has none before it.
            first = self._cut.match(text) if self._cut is not None else None
            text = text if first is not None and self._marks[first[0]].special else self._prefix + text
        at, takes = 0, False
        for found in self._cut.finditer(text) if self._cut is not None else ():
            mark = self._marks[found[0]]
            stretch = text[at : found.start()]
            stretch = stretch.lstrip() if takes else stretch
            yield from self._encode(stretch.rstrip() if mark.left else stretch)
            yield mark.number
            at, takes = found.end(), mark.right
        yield from self._encode(text[at:].lstrip() if takes else text[at:])

    def _encode(self, stretch: str) -> list[int]:
        """The ids of a stretch without marks."""
        if not stretch:
            return []
        if self.legacy or not stretch.startswith((SPACE, " ")):
            return list(self._model.encode(stretch))
        # White space that begins a text may be taken off; behind other words it is not.
        guard = self._unknown or "<unk>"
        return list(self._model.encode(guard + stretch))[len(self._model.encode(guard)) :]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of ids; those that are no piece and no mark say nothing."""
        said: list[str] = []
        run: list[int] = []
        for number in [*ids, None]:
            name = None if number is None else self._names.get(number)
            if number is not None and name is None:
                if 0 <= number < self._model.get_piece_size():
                    run.append(number)
                continue
            if name is not None and skip_special_tokens and self._marks[name].special:
                continue
            said.append(self._said(run, first=not said))
            said.append(name or "")
            run = []
        return "".join(said)

    def _said(self, run: list[int], *, first: bool) -> str:
        text = str(self._model.decode(run)) if run else ""
        # Without its own prefix the model leaves the one that was put before the text.
        return text.removeprefix(" ") if first and self._prefix else text


def _text(entry: Any, key: str, where: str) -> str | None:
    """A mark as text, or as an object with its text."""
    text = entry.get("content") if isinstance(entry, Mapping) else entry
    if text is not None and not isinstance(text, str):
        raise ModelError(f"tokenizer_config.json beside {where} has {key}={str(entry)[:80]}; expected text")
    return text


def _number(number: Any, text: str, where: str) -> int:
    if isinstance(number, bool) or not str(number).isdecimal() or len(str(number)) > 9:
        raise ModelError(f"{where} gives the token {text[:40]!r} the id {str(number)[:40]}; expected a whole number")
    return int(number)


def _mark(entry: Any, number: int) -> _Mark:
    about = entry if isinstance(entry, Mapping) else {}
    return _Mark(number, about.get("special") is True, about.get("lstrip") is True, about.get("rstrip") is True)
