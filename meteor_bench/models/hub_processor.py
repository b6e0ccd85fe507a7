"""Prompts of the families that transformers ships: a checkpoint's own tokenizer and template, around placeholders."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from jinja2 import TemplateError

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import Clip, Processor, Prompt
from meteor_bench.models.hf import BAD_CONFIG
from meteor_bench.utils.plain_text import one_line

__all__ = ["HubProcessor", "HubText", "Library", "NoText", "Text", "is_video"]


def is_video(media: Sequence[Any]) -> bool:
    """Whether they are frames of a clip; a single one is an image."""
    return isinstance(media, Clip) and len(media) > 1


class Text(Protocol):
    """Words into ids and back."""

    def ask(self, question: str, images: int, clip: bool) -> list[int]:
        """The whole prompt; each image (or the clip) is one placeholder id."""

    def encode(self, text: str) -> list[int]:
        """Ids of an answer."""

    def decode(self, ids: Sequence[int]) -> str:
        """The answer of ids."""


class HubText:
    """The tokenizer and template of a checkpoint.

    Args:
        processor: the library's.
        template: for a checkpoint without a chat template: the prompt with {images} and {question}.
        image, video: the placeholders as they are written; a question's own are taken out.
        tokenizer: None for the processor's.
    """

    def __init__(
        self, processor: Any, template: str, image: str, video: str | None = None, tokenizer: Any = None
    ) -> None:
        self._processor, self._template = processor, template
        self._image, self._video = image, video
        self._tokenizer = tokenizer or processor.tokenizer

    def ask(self, question: str, images: int, clip: bool) -> list[int]:
        for own in (self._image, self._video):
            question = question.replace(own, "") if own else question
        seen = self._video if clip and self._video else self._image
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "video" if seen is self._video else "image"} for _ in range(1 if clip else images)]
            message = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
            try:
                text = str(self._processor.apply_chat_template([message], add_generation_prompt=True))
            except (TemplateError, *BAD_CONFIG) as error:
                raise ModelError(f"the checkpoint's chat template (chat_template) fails: {one_line(error)}") from error
        else:
            text = self._template.format(images=f"{seen}\n" * (1 if clip else images), question=question)
        begun = self._tokenizer.bos_token is not None and text.startswith(self._tokenizer.bos_token)
        return list(self._tokenizer(text, add_special_tokens=not begun)["input_ids"])

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


class NoText:
    """For random weights, where there is no tokenizer: a word is an id of its own choosing.

    Args:
        placeholder: id that stands for an image.
        size: of the vocabulary.
    """

    def __init__(self, placeholder: int, size: int) -> None:
        self._placeholder, self._size = placeholder, size

    def ask(self, question: str, images: int, clip: bool) -> list[int]:
        count = 1 if clip else images
        return [1, *[i for _ in range(count) for i in (self._placeholder, 2)], *self.encode(question)]

    def encode(self, text: str) -> list[int]:
        ids = [3 + zlib.crc32(word.encode()) % (self._size - 3) for word in text.split()]
        return [2 if i == self._placeholder else i for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


class Library(NamedTuple):
    """What a family's processor is made of.

    Attributes:
        images: transformers' image processor.
        videos: its video processor; None for a family without one.
        text: words into ids.
        placeholders: ids that stand for an image or a clip.
        eos: ids that end an answer.
    """

    images: Any
    videos: Any
    text: Text
    placeholders: Sequence[int]
    eos: frozenset[int]


class HubProcessor(Processor):
    """Prompts around placeholders; a family adds the pixels."""

    def __init__(self, library: Library) -> None:
        self.images, self.videos, self.text = library.images, library.videos, library.text
        self.placeholders, self.eos = frozenset(library.placeholders), library.eos

    @abstractmethod
    def pixels(self, media: Sequence[Any]) -> torch.Tensor: ...

    def prompt(self, question: str) -> Prompt:
        first, *_, last = self._cut(self.text.ask(question, 1, False))
        return Prompt(first, last)

    def words(self, question: str) -> tuple[int, ...]:
        return tuple(self.text.ask(question, 0, False))

    def between(self, images: int) -> list[tuple[int, ...]]:
        """Ids between images of one prompt, which come before the question."""
        return self._cut(self.text.ask("", images, False))[1:-1]

    def around(self, images: int) -> list[tuple[int, ...]]:
        """Ids before each image of a prompt and behind the last that are not in `prompt`."""
        return [(), *self.between(images), ()]

    def _cut(self, ids: Sequence[int]) -> list[tuple[int, ...]]:
        """What stands before, between and behind the placeholders."""
        pieces: list[list[int]] = [[]]
        for i in ids:
            if i in self.placeholders:
                pieces.append([])
            else:
                pieces[-1].append(i)
        if len(pieces) < 2:
            raise ModelError("the checkpoint's prompt template has no place for an image")
        return [tuple(piece) for piece in pieces]

    def continuation(self, text: str) -> tuple[int, ...]:
        return tuple(self.text.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self.text.decode(ids)
