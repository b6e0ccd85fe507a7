"""A family that transformers ships: one row that names its classes, and an adapter with what only this family has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, FusionKind, ModelCard
from meteor_bench.models.hf import hub_config, hub_key, make, parts, read_eos, seal
from meteor_bench.models.hub_processor import HubProcessor, HubText, Library, NoText, Text

__all__ = ["Encoders", "HubAdapter", "HubFamily", "Media"]


class Media(NamedTuple):
    """What turns pictures into pixels.

    Attributes:
        images: transformers' image processor.
        videos: its video processor; None for a family without one.
    """

    images: Any
    videos: Any = None


class Encoders(NamedTuple):
    """What a card says of the encoders of a model.

    Attributes:
        towers: each encoder's name, and what it is.
        tokens: visual tokens of an image, before any pruning.
    """

    towers: Mapping[str, str]
    tokens: int


class HubAdapter(ABC):
    """What one family adds to what all families of transformers share.

    Attributes:
        template: the prompt with {images} and {question}, for a checkpoint without a chat template.
        fusion: how the encoders are joined, see `FusionKind`.
        videos: whether the family has a video processor and a placeholder for clips.
    """

    template: ClassVar[str]
    fusion: ClassVar[FusionKind] = "independent"
    videos: ClassVar[bool] = False

    @abstractmethod
    def describe(self, config: Mapping[str, Any]) -> Encoders:
        """The encoders that a config.json describes; keys may be missing, which then have the library's defaults."""

    @abstractmethod
    def media(self, config: Any) -> Media:
        """What the library makes pixels with, for random weights, where no folder holds it.

        Args:
            config: the library's configuration object.
        """

    @abstractmethod
    def processor(self, config: Any, library: Library) -> HubProcessor:
        """The processor of a model."""

    @abstractmethod
    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        """The library's modules in the engine's terms.

        Args:
            model: of the library, with its weights.
        """

    def check(self, config: Any, name: str) -> None:
        """Refuse a configuration that is valid in the library and not supported here.

        Raises:
            ModelError: it is one.
        """
        return

    def key(self, key: str) -> str | None:
        """A weight's name in a file -> its name in the library's model; None for one that is not read."""
        return hub_key(key)

    def fit(self, key: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A weight as a file holds it -> as the library's model does.

        Args:
            key: its name in the library's model.
            shape: that it has there.
        """
        return value

    def tokenizer(self, folder: Path) -> Any:
        """A tokenizer that takes the place of the library's own; None for the library's."""
        return None


@dataclass(frozen=True)
class HubFamily:
    """A row: names of the classes of transformers, imported when a model is built, and the adapter.

    Attributes:
        config, model, processor: names of the library's classes.
        adapter: what only this family has.
    """

    config: str
    model: str
    processor: str
    adapter: HubAdapter

    def card(
        self,
        config: Mapping[str, Any],
        name: str,
        *,
        licence: str = "see the checkpoint's card",
        weights: str | None = None,
        published: bool = True,
        note: str = "",
    ) -> ModelCard:
        """A row of the model table, or the card of a folder.

        Args:
            config: what config.json holds.
            licence, weights, published, note: of the row, see `ModelCard`.
        """
        text, encoders = config.get("text_config", config), self.adapter.describe(config)
        return ModelCard(
            name=name,
            fusion=self.adapter.fusion,
            towers=encoders.towers,
            llm=f"{text.get('model_type', 'llama')}, {text.get('num_hidden_layers', 32)} layers, "
            f"width {text.get('hidden_size', 4096)}",
            tokens=encoders.tokens,
            licence=licence,
            build=partial(self._trained, config, name),
            note=note,
            weights=weights,
            published=published,
            random=lambda device, dtype: self.load(config, name, device, dtype, None),
            shallow=lambda layers: self.card(_shallow(config, layers), name, licence=licence, note=note),
        )

    def load(self, config: Mapping[str, Any], name: str, device: str, dtype: torch.dtype, folder: Path | None) -> VLM:
        """Build the model of a folder, or of a configuration with random weights where there is no folder.

        Raises:
            ModelError: the folder does not hold what its configuration says, or the family does not support it.
        """
        import transformers

        described = hub_config(getattr(transformers, self.config), config, name, folder)
        self.adapter.check(described, name)
        library = self._library(described, folder)
        kind, own = getattr(transformers, self.model), self.adapter
        model = make(kind, described, device, dtype, folder, rename=own.key, fit=own.fit)
        return seal(self.adapt(model, name, library), folder)

    def adapt(self, model: Any, name: str, library: Library) -> VLM:
        """The library's model, with its weights, in the engine's terms.

        Raises:
            ModelError: the family does not support its configuration.
        """
        self.adapter.check(model.config, name)
        return self.adapter.assemble(name, model, model.config, self.adapter.processor(model.config, library))

    def _trained(
        self, config: Mapping[str, Any], name: str, device: str, dtype: torch.dtype, folder: Path | None
    ) -> VLM:
        if folder is None:
            raise ModelError(f"no weights of '{name}' are known; give a folder with --source, or --random-weights")
        return self.load(config, name, device, dtype, folder)

    def _library(self, config: Any, folder: Path | None) -> Library:
        """What a folder holds of the library's processor, or what takes its place for random weights."""
        import transformers

        eos = read_eos(config, folder)
        if folder is None:
            random, placeholders = self.adapter.media(config), self._placeholders(config)
            nothing: Text = NoText(placeholders[0], config.get_text_config().vocab_size)
            return Library(random.images, random.videos, nothing, placeholders, eos)
        own = parts(getattr(transformers, self.processor), folder)
        return self.library(own, config, eos, self.adapter.tokenizer(folder))

    def library(self, own: Any, config: Any, eos: frozenset[int], tokenizer: Any = None) -> Library:
        """The parts of the library's processor.

        Args:
            own: the processor.
            config: of the model.
            eos: ids that end an answer.
            tokenizer: None for the processor's.
        """
        videos = self.adapter.videos
        seen = own.video_token if videos else None
        text = HubText(own, self.adapter.template, own.image_token, seen, tokenizer=tokenizer)
        media = own.image_processor, own.video_processor if videos else None
        return Library(*media, text, self._placeholders(config, own), eos)

    def _placeholders(self, config: Any, own: Any = None) -> list[int]:
        """Ids of the text that pictures and videos take the place of."""
        found = [config.image_token_id]
        if self.adapter.videos:
            if (of_videos := getattr(config, "video_token_id", None)) is not None:
                found.append(of_videos)
            elif own is not None and own.video_token in own.tokenizer.get_vocab():  # the tokenizer alone knows it
                found.append(own.tokenizer.convert_tokens_to_ids(own.video_token))
        return found


def _shallow(config: Mapping[str, Any], layers: int) -> Mapping[str, Any]:
    """A configuration with at most so many layers of the language model."""
    if "text_config" in config:
        return {**config, "text_config": _shallow(config["text_config"], layers)}
    out = {**config, "num_hidden_layers": min(layers, config.get("num_hidden_layers", layers))}
    if isinstance(kinds := config.get("layer_types"), list):  # one for each layer
        out["layer_types"] = kinds[:layers]
    return out
