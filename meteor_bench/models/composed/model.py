"""A composition in the engine's terms, with random weights or those of a folder.

A folder holds a tokenizer, and safetensors with the names of the modules here: ``towers.<name>.<the library's name>``,
``projector.<name>.{0,2}.{weight,bias}`` (kind: channels: ``projector.{0,2}...``), ``decoder.<the library's name>``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Fusion, ModelCard
from meteor_bench.core.tokens import Tokens
from meteor_bench.models.checkpoint import digest, load_weights, randomise, skeleton
from meteor_bench.models.composed import parts
from meteor_bench.models.composed.recipe import Recipe
from meteor_bench.models.composed.towers import module_of, tower_of
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.eagle.fusion import EagleFusion
from meteor_bench.models.eagle.processor import EagleProcessor, template_for
from meteor_bench.models.fake_tokenizer import StandInTokenizer
from meteor_bench.models.fusions import Independent, linear_flops
from meteor_bench.models.hf import BAD_CONFIG, read_eos
from meteor_bench.models.hf import parts as of_library
from meteor_bench.models.piece_tokenizer import piece_tokenizer
from meteor_bench.utils.plain_text import one_line

__all__ = ["Composed", "Projectors", "card_of"]

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


class Composed(nn.Module):
    """The modules of a recipe; a tower that is another once more has none of its own."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        own = {name: part for name, part in recipe.towers.items() if name not in recipe.same}
        width = recipe.decoder.hidden_size
        self.towers = nn.ModuleDict({name: module_of(part) for name, part in own.items()})
        self.projector: nn.Module
        if recipe.fusion.kind == "sequence":
            self.projector = nn.ModuleDict({name: _mlp(part.width, width) for name, part in own.items()})
        else:
            self.projector = _mlp(sum(_widths(recipe).values()), width)
        self.decoder = _language_model(recipe)


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))


def _widths(recipe: Recipe) -> dict[str, int]:
    """Channels that each tower contributes on a common grid."""
    return {name: part.width * (4 if name in recipe.fusion.fold else 1) for name, part in recipe.towers.items()}


def _language_model(recipe: Recipe) -> Any:
    sizes = {key: value for key, value in vars(recipe.decoder).items() if value is not None}
    sizes.setdefault("num_key_value_heads", recipe.decoder.num_attention_heads)
    sizes.setdefault("head_dim", recipe.decoder.hidden_size // recipe.decoder.num_attention_heads)
    # Ends are the tokenizer's: the library's default ids are other words in another vocabulary.
    sizes |= {"bos_token_id": None, "eos_token_id": None}
    config, model = (getattr(transformers, name) for name in parts.DECODERS[recipe.decoder_type])
    made = model(config(**sizes))
    made.set_attn_implementation(register())
    return made


class Projectors(Independent):
    """A projector for each tower.

    Args:
        projectors: tower -> module; two towers may have the same.
    """

    def __init__(self, projectors: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.projectors = nn.ModuleDict(dict(projectors))

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        assert tower is not None
        return tokens.with_x(self.projectors[tower](tokens.x))

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(linear_flops(self.projectors[name], n) for name, n in counts.items())


def card_of(recipe: Recipe, where: str) -> ModelCard:
    """The card of a composition.

    Args:
        where: its file, for messages.
    """
    llm = recipe.decoder
    return ModelCard(
        name=recipe.name,
        fusion="independent" if recipe.fusion.kind == "sequence" else "shared",
        towers={
            name: f"{recipe.same[name]} once more" if name in recipe.same else str(part)
            for name, part in recipe.towers.items()
        },
        llm=f"{recipe.decoder_type}, {llm.num_hidden_layers} layers, width {llm.hidden_size}",
        tokens=recipe.tokens,
        licence=recipe.licence,
        build=partial(_trained, recipe, where),
        note=recipe.note,
        weights=None if recipe.weights is None else str(recipe.weights),
        published=recipe.weights is not None,
        random=partial(_untrained, recipe, where),
    )


def _skeleton(recipe: Recipe, where: str) -> Composed:
    try:
        with skeleton():
            return Composed(recipe)
    except BAD_CONFIG as error:
        raise ModelError(f"{where} does not describe a model: {one_line(error)}") from error


def _untrained(recipe: Recipe, where: str, device: str, dtype: torch.dtype) -> VLM:
    """With random weights; prompts get about the length they have for real."""
    model = _skeleton(recipe, where)
    randomise(model, device, dtype)
    if recipe.decoder.tie_word_embeddings:
        model.decoder.tie_weights()
    vlm = _assemble(recipe, model, StandInTokenizer(recipe.decoder.vocab_size), frozenset())
    vlm.digest = "random"
    return vlm


def _trained(recipe: Recipe, where: str, device: str, dtype: torch.dtype, folder: Path | None) -> VLM:
    """With the weights of a folder.

    Raises:
        ModelError: there is none, or it does not hold what the composition says.
    """
    if folder is None:
        raise ModelError(f"'{recipe.name}' has no weights: take --random-weights, or say weights: FOLDER in {where}")
    # The library makes an empty tokenizer where there is none.
    if not any((folder / name).exists() for name in _TOKENIZERS):
        raise ModelError(f"{folder} holds no tokenizer, without which '{recipe.name}' has no text: {_TOKENIZERS[0]}")
    model = _skeleton(recipe, where)
    tied = {"decoder.lm_head.weight": "decoder.model.embed_tokens.weight"}
    load_weights(model, folder, device=device, dtype=dtype, ties=tied if recipe.decoder.tie_word_embeddings else {})
    if recipe.decoder.tie_word_embeddings:
        model.decoder.tie_weights()
    tokenizer = piece_tokenizer(folder) or of_library(transformers.AutoTokenizer, folder, config=model.decoder.config)
    vlm = _assemble(recipe, model, tokenizer, read_eos(model.decoder.config, folder))
    vlm.digest = hashlib.sha256(f"{recipe.digest} {digest(folder, described=False)}".encode()).hexdigest()
    vlm.folder = folder
    return vlm


def _assemble(recipe: Recipe, model: Composed, tokenizer: Any, eos: frozenset[int]) -> VLM:
    model.eval().requires_grad_(False)
    sources = {name: recipe.same.get(name, name) for name in recipe.towers}
    fusion: Fusion
    if isinstance(model.projector, nn.ModuleDict):
        fusion = Projectors({name: model.projector[source] for name, source in sources.items()})
    else:
        assert recipe.fusion.grid is not None and isinstance(model.projector, nn.Sequential)
        folded = frozenset(recipe.fusion.fold)
        fusion = EagleFusion(model.projector, _widths(recipe), recipe.fusion.grid, folded)
    processor = EagleProcessor(
        tokenizer,
        recipe.template or template_for(tokenizer.get_vocab()),
        eos=eos,
        size=recipe.image,
        tokens=recipe.tokens,
        most=None,
    )
    return VLM(
        name=recipe.name,
        towers={name: tower_of(name, part, model.towers[sources[name]]) for name, part in recipe.towers.items()},
        fusion=fusion,
        decoder=LlamaDecoder(model.decoder),
        processor=processor,
        reference=lambda grid: grid.t * recipe.reference,
        native=(recipe.image, recipe.image),
        resizable=False,
    )
