"""LLaVA-1.5 (arXiv 2310.03744) as transformers has it: one CLIP tower, an MLP, a Llama-like language model.

The tower's features are those of the layer that the checkpoint names (the last but one), its class token dropped
after it. Several images stand one after another with the template's text between them; it has no video, so the frames
of a clip are images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Decoder
from meteor_bench.core.tokens import Block, Grid
from meteor_bench.models.decoders import CausalLM, LlamaDecoder
from meteor_bench.models.fusions import OneProjector, separated
from meteor_bench.models.hub_family import Encoders, HubAdapter, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library
from meteor_bench.models.piece_tokenizer import piece_tokenizer
from meteor_bench.models.towers import VitTower

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "LLAVA",
    "LLAVA_7B",
    "LlavaAdapter",
    "LlavaProcessor",
    "apart",
    "card_for",
    "check_features",
    "clip_rows",
    "tower_of",
]

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

    def pixels(self, media: Sequence[Any]) -> Tensor:
        pixels: Tensor = self.images(images=list(media), return_tensors="pt")["pixel_values"]
        return pixels


def clip_rows(config: Mapping[str, Any], rows: int) -> Encoders:
    """What a card says of a CLIP tower that sees that many rows of an image."""
    vision = config.get("vision_config", {})
    side = vision.get("image_size", 336)
    cells = side // vision.get("patch_size", 14)
    each = f" for each of up to {rows} rows" if rows > 1 else ""
    return Encoders({"clip": f"CLIP ViT, {side} px, {cells}x{cells} tokens and a class token{each}"}, rows * cells**2)


def apart(decoder: Decoder, processor: HubProcessor) -> Callable[[Grid], Block | None]:
    """The visual block of images one after another, with the template's text between them."""
    return lambda grid: separated(decoder, [grid.h * grid.w] * grid.t, processor.between(grid.t))


class LlavaAdapter(HubAdapter):
    """One CLIP tower and one projector."""

    template = "USER: {images}{question} ASSISTANT:"  # of llava-1.5; a checkpoint's own chat template comes first

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        return clip_rows(config, 1)

    def check(self, config: Any, name: str) -> None:
        check_features(config, name)

    def media(self, config: Any) -> Media:
        from transformers import CLIPImageProcessor

        side = config.vision_config.image_size
        return Media(CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}))

    def tokenizer(self, folder: Path) -> Any:
        return piece_tokenizer(folder)

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return LlavaProcessor(library)

    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        body, side = model.model, config.vision_config.image_size
        decoder = LlamaDecoder(CausalLM(body.language_model, model.lm_head))
        return VLM(
            name=name,
            towers={"clip": tower_of("clip", body.vision_tower, config)},
            fusion=OneProjector(body.multi_modal_projector),
            decoder=decoder,
            processor=processor,
            reference=lambda grid: grid.n,
            native=(side, side),
            block=apart(decoder, processor),
        )


LLAVA = HubFamily("LlavaConfig", "LlavaForConditionalGeneration", "LlavaProcessor", LlavaAdapter())
card_for = LLAVA.card

LLAVA_7B = card_for(
    LLAVA_7B_CONFIG, "llava-1.5-7b", licence="LLAMA 2 Community License", weights="llava-hf/llava-1.5-7b-hf"
)
