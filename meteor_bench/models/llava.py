"""LLaVA-1.5 (arXiv 2310.03744) as transformers has it: one CLIP tower, an MLP, a Llama-like language model.

The tower's features are those of the layer that the checkpoint names (the last but one), its class token dropped
after it. Several images stand one after another with the template's text between them; it has no video, so the frames
of a clip are images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, ModelCard
from meteor_bench.core.tokens import Block, Grid
from meteor_bench.models.decoders import CausalLM, LlamaDecoder
from meteor_bench.models.fusions import OneProjector, separated
from meteor_bench.models.hf import HubProcessor, HubText, NoText, card, hub_config, make, parts, read_eos, seal
from meteor_bench.models.piece_tokenizer import piece_tokenizer
from meteor_bench.models.towers import VitTower

__all__ = ["LLAVA_7B", "LlavaProcessor", "card_for", "check_features", "tower_of"]

TEMPLATE = "USER: {images}{question} ASSISTANT:"  # of llava-1.5; a checkpoint's own chat template comes first

LLAVA_7B_CONFIG: Mapping[str, Any] = {
    "model_type": "llava",
    "image_token_index": 32000,
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "vocab_size": 32064,
    },
}


def check_features(config: Any, where: str) -> None:
    """Raise ModelError where a LLaVA-like model uses its tower in a way that is not supported."""
    layer, strategy = config.vision_feature_layer, config.vision_feature_select_strategy
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise ModelError(f"'{where}' joins features of layers {layer}; only one layer is supported")
    layers = config.vision_config.num_hidden_layers
    if not -layers - 1 <= layer <= layers:
        raise ModelError(
            f"'{where}' has vision_feature_layer={layer}; its vision_config has {layers} layers: "
            f"expected {-layers - 1} to {layers}"
        )
    has_cls = config.vision_config.model_type == "clip_vision_model"
    if has_cls != (strategy == "default"):
        raise ModelError(
            f"'{where}' has vision_feature_select_strategy '{strategy}' on a {config.vision_config.model_type}; "
            f"supported there: '{'default' if has_cls else 'full'}'"
        )


def tower_of(name: str, model: Any, config: Any) -> VitTower:
    """The tower of a LLaVA-like model, cut after the layer whose output it uses."""
    layer, layers = config.vision_feature_layer, config.vision_config.num_hidden_layers
    return VitTower(
        name,
        model,
        has_cls=config.vision_feature_select_strategy == "default",
        post_norm=False,
        prepare=lambda pixels: pixels,
        depth=layer if layer >= 0 else layers + 1 + layer,
    )


class LlavaProcessor(HubProcessor):
    """The library's image processor; each image is a row."""

    def __init__(self, images: Any, *more: Any) -> None:
        super().__init__(*more)
        self.images = images

    def pixels(self, media: Sequence[Any]) -> Tensor:
        pixels: Tensor = self.images(images=list(media), return_tensors="pt")["pixel_values"]
        return pixels


def assemble(name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
    """The library's modules in the engine's terms."""
    body, side = model.model, config.vision_config.image_size
    decoder = LlamaDecoder(CausalLM(body.language_model, model.lm_head))

    def block(grid: Grid) -> Block | None:
        return separated(decoder, [grid.h * grid.w] * grid.t, processor.between(grid.t))

    return VLM(
        name=name,
        towers={"clip": tower_of("clip", body.vision_tower, config)},
        fusion=OneProjector(body.multi_modal_projector),
        decoder=decoder,
        processor=processor,
        reference=lambda grid: grid.n,
        native=(side, side),
        block=block,
    )


def load(config: Mapping[str, Any], name: str, device: str, dtype: torch.dtype, folder: Path | None) -> VLM:
    """Build the model of a folder, or of a configuration with random weights.

    Raises:
        ModelError: the folder does not hold what its configuration says.
    """
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration
    from transformers import LlavaProcessor as Library

    described = hub_config(LlavaConfig, config, name, folder)
    check_features(described, name)
    token = described.image_token_id
    eos = read_eos(described, folder)
    if folder is None:
        side = described.vision_config.image_size
        images: Any = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        processor = LlavaProcessor(images, NoText(token, described.text_config.vocab_size), [token], eos)
    else:
        own = parts(Library, folder)
        text = HubText(own, TEMPLATE, own.image_token, tokenizer=piece_tokenizer(folder))
        processor = LlavaProcessor(own.image_processor, text, [token], eos)
    model = make(LlavaForConditionalGeneration, described, device, dtype, folder)
    return seal(assemble(name, model, described, processor), folder)


def card_for(config: Mapping[str, Any], name: str, **more: Any) -> ModelCard:
    """The card of a folder of this family."""
    vision = config.get("vision_config", {})
    side = vision.get("image_size", 336)
    cells = side // vision.get("patch_size", 14)
    towers = {"clip": f"CLIP ViT, {side} px, {cells}x{cells} tokens and a class token"}
    return card(load, config, name, "independent", towers, cells**2, **more)


LLAVA_7B = card_for(
    LLAVA_7B_CONFIG, "llava-1.5-7b", licence="LLAMA 2 Community License", weights="llava-hf/llava-1.5-7b-hf"
)
