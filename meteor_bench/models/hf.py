"""What the families that transformers ships share: building their modules, prompts from their processors, cards.

A checkpoint is what `save_pretrained` writes, or what lies on the hub (older key names, see `hub_key`).
"""

from __future__ import annotations

import re
import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, FusionKind, ModelCard, Processor, Prompt
from meteor_bench.models.checkpoint import digest, load_weights, randomise, skeleton
from meteor_bench.models.locate import (
    read_config,
    read_object,
)

__all__ = [
    "BAD_CONFIG",
    "HubProcessor",
    "HubText",
    "NoText",
    "Text",
    "card",
    "hub_config",
    "hub_key",
    "make",
    "parts",
    "read_eos",
    "seal",
]

# What the library's configuration classes raise for values that make no sense.
BAD_CONFIG = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
PATIENCE_S = 20.0  # for a prompt, which takes milliseconds
_OLD = (
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.(model\.)?"), "model.language_model."),
    (re.compile(r"^(vision_tower|multi_modal_projector|image_newline)"), r"model.\1"),
    (re.compile(r"^(model\.\w*vision_(?:tower|model))\.vision_model\."), r"\1."),
)


def hub_key(key: str) -> str | None:
    """A weight's name in a file, old or new -> its name in transformers 5; None for a buffer that is recomputed."""
    if key.endswith(("position_ids", "inv_freq")):
        return None
    for old, new in _OLD:
        key = old.sub(new, key)
    return key


def hub_config(kind: type[Any], config: Mapping[str, Any], name: str, folder: Path | None) -> Any:
    """The library's configuration object for a folder's config.json, without a folder for ``config``.

    Raises:
        ModelError: it does not describe such a model.
    """
    config = config if folder is None else read_config(folder)
    if config.get("model_type") != kind.model_type:
        raise ModelError(
            f"{folder} holds a model of type '{config.get('model_type')}'; '{name}' is '{kind.model_type}'"
        )
    try:
        return kind.from_dict(dict(config))
    except BAD_CONFIG as error:
        raise ModelError(f"config.json of '{name}' is no {kind.__name__}: {_line(error)}") from error


def make(
    kind: type[Any], config: Any, device: str, dtype: torch.dtype, folder: Path | None, rename: Any = hub_key
) -> Any:
    """The library's model with the weights of a folder, or with random ones.

    Raises:
        ModelError: see `load_weights`.
    """
    try:
        with skeleton():
            model = kind(config)
    except BAD_CONFIG as error:
        where = "the configuration" if folder is None else f"{folder / 'config.json'}"
        raise ModelError(f"{where} does not describe a {kind.__name__}: {_line(error)}") from error
    tied = bool(getattr(config, "tie_word_embeddings", False))
    if folder is None:
        randomise(model, device, dtype)
    else:
        ties = {"lm_head.weight": "model.language_model.embed_tokens.weight"} if tied else {}
        load_weights(model, folder, device=device, dtype=dtype, rename=rename, ties=ties)
    if tied:
        model.tie_weights()
    model.eval().requires_grad_(False)
    model.set_attn_implementation(register())
    return model


def seal(vlm: VLM, folder: Path | None) -> VLM:
    """Say what the model was built from; its prompts are tried, for a template may be wrong.

    Raises:
        ModelError: the template has no place for an image, fails, or does not come to an end.
    """
    _try_prompt(vlm.processor)
    vlm.digest, vlm.folder = "random" if folder is None else digest(folder), folder
    return vlm


def _try_prompt(processor: Processor) -> None:
    """A template is a program: one with loops in loops would go on for years."""
    raised: list[Exception] = []

    def attempt() -> None:
        try:
            processor.prompt("")
        except Exception as error:  # raised below, in the thread that waits
            raised.append(error)

    # One that nobody waits for any more does not keep the process from ending.
    thread = Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        raise ModelError(
            f"the checkpoint's chat template (chat_template) takes more than {PATIENCE_S:g} s for a prompt"
        )
    if raised:
        raise raised[0]


def parts(kind: Any, folder: Path, **more: Any) -> Any:
    """The library's processor (tokenizer, image processor, template) of a checkpoint; no code of it is run.

    Args:
        more: other arguments of the library's `from_pretrained`.

    Raises:
        ModelError: a file of it is missing or broken.
    """
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)
    except (OSError, *BAD_CONFIG) as error:
        raise ModelError(f"{folder} holds no {kind.__name__}: {_line(error)}") from error
    except Exception as error:
        if type(error) is not Exception:  # what `tokenizers` says of a file that is none has no class of its own
            raise
        raise ModelError(f"{folder} holds no {kind.__name__}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """What a library says, on one line; its name where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def read_eos(config: Any, folder: Path | None) -> frozenset[int]:
    """The ids that end an answer: those of generation_config.json, else the language model's own."""
    found: Any = getattr(config, "eos_token_id", None)
    found = getattr(config.get_text_config(), "eos_token_id", None) if found is None else found
    file = None if folder is None else folder / "generation_config.json"
    if file is not None and file.exists():
        found = read_object(file).get("eos_token_id", found)
    ids = [] if found is None else found if isinstance(found, list) else [found]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        where = file or "config.json"
        raise ModelError(f"{where} has eos_token_id={str(found)[:60]}; expected a whole number or a list of them")
    return frozenset(ids)


Load = Callable[[Mapping[str, Any], str, str, torch.dtype, Path | None], VLM]


def card(
    load: Load,
    config: Mapping[str, Any],
    name: str,
    fusion: FusionKind,
    towers: Mapping[str, str],
    tokens: int,
    *,
    licence: str = "see the checkpoint's card",
    weights: str | None = None,
    published: bool = True,
    note: str = "",
) -> ModelCard:
    """A row of the model table, or the card of a folder.

    Args:
        load: a family's, with (configuration, name, device, dtype, folder or None for random weights).
        weights, published: of the row, see `ModelCard`.
    """
    text = config.get("text_config", config)
    return ModelCard(
        name=name,
        fusion=fusion,
        towers=towers,
        llm=f"{text.get('model_type', 'llama')}, {text.get('num_hidden_layers', 32)} layers, "
        f"width {text.get('hidden_size', 4096)}",
        tokens=tokens,
        licence=licence,
        build=partial(_trained, load, config, name),
        note=note,
        weights=weights,
        published=published,
        random=lambda device, dtype: load(config, name, device, dtype, None),
    )


def _trained(
    load: Load, config: Mapping[str, Any], name: str, device: str, dtype: torch.dtype, folder: Path | None
) -> VLM:
    if folder is None:
        raise ModelError(f"no weights of '{name}' are known; give a folder with --source, or --random-weights")
    return load(config, name, device, dtype, folder)


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
                raise ModelError(f"the checkpoint's chat template (chat_template) fails: {_line(error)}") from error
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


class HubProcessor(Processor):
    """Prompts around placeholders; a family adds the pixels.

    Args:
        text: words into ids.
        placeholders: ids that stand for an image or a clip.
        eos: ids that end an answer.
    """

    def __init__(self, text: Text, placeholders: Sequence[int], eos: frozenset[int]) -> None:
        self.text, self.placeholders, self.eos = text, frozenset(placeholders), eos

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
