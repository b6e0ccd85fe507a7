"""LLaVA-NeXT (1.6) as transformers has it: LLaVA-1.5 whose images come as a small copy and up to four tiles.

See `models.anyres` for what becomes of the tiles. It has no video, so the frames of a clip are images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.model import VLM, ModelCard, Scene
from meteor_bench.models.anyres import Tiling, assemble
from meteor_bench.models.hf import HubProcessor, HubText, NoText, card, hub_config, make, parts, read_eos, seal
from meteor_bench.models.llava import LLAVA_7B_CONFIG, TEMPLATE, check_features, tower_of
from meteor_bench.models.piece_tokenizer import piece_tokenizer

__all__ = ["LLAVA_NEXT_7B", "TileProcessor", "card_for", "sizes_of"]

LLAVA_NEXT_7B_CONFIG: Mapping[str, Any] = {
    **LLAVA_7B_CONFIG,
    "model_type": "llava_next",
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
}


def sizes_of(media: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    """Height and width of each image."""
    return tuple((image.height, image.width) for image in media)


class TileProcessor(HubProcessor):
    """The library's image processor; the small copy and the tiles of each image are rows.

    Args:
        images: the library's.
        tiling: how the model cuts images.
    """

    def __init__(self, images: Any, tiling: Tiling, *more: Any) -> None:
        super().__init__(*more)
        self.images, self.tiling = images, tiling

    def pixels(self, media: Sequence[Any]) -> Tensor:
        made = self.images(images=list(media), return_tensors="pt")["pixel_values"]  # [n, most rows of any, 3, H, W]
        counts = [self.tiling.rows(size) for size in sizes_of(media)]
        return torch.cat([rows[:count] for rows, count in zip(made, counts, strict=True)])

    def scene(self, media: Sequence[Any]) -> Scene:
        return Scene(sizes=sizes_of(media))


def load(config: Mapping[str, Any], name: str, device: str, dtype: torch.dtype, folder: Path | None) -> VLM:
    """Build the model of a folder, or of a configuration with random weights.

    Raises:
        ModelError: the folder does not hold what its configuration says.
    """
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextImageProcessor
    from transformers import LlavaNextProcessor as Library

    described = hub_config(LlavaNextConfig, config, name, folder)
    check_features(described, name)
    token, eos, vision = described.image_token_id, read_eos(described, folder), described.vision_config
    tiling = Tiling(
        [list(size) for size in described.image_grid_pinpoints],
        vision.image_size,
        vision.image_size // vision.patch_size,
    )
    if folder is None:
        side = dict.fromkeys(("height", "width"), vision.image_size)
        images: Any = LlavaNextImageProcessor(
            size={"shortest_edge": vision.image_size}, crop_size=side, image_grid_pinpoints=tiling.pinpoints
        )
        processor = TileProcessor(images, tiling, NoText(token, described.text_config.vocab_size), [token], eos)
    else:
        own = parts(Library, folder)
        text = HubText(own, TEMPLATE, own.image_token, tokenizer=piece_tokenizer(folder))
        processor = TileProcessor(own.image_processor, tiling, text, [token], eos)
    model = make(LlavaNextForConditionalGeneration, described, device, dtype, folder)
    tower = tower_of("clip", model.model.vision_tower, described)
    return seal(assemble(name, model, tower, processor, tiling, each=True), folder)


def card_for(config: Mapping[str, Any], name: str, **more: Any) -> ModelCard:
    """The card of a folder of this family."""
    vision = config.get("vision_config", {})
    side = vision.get("image_size", 336)
    cells = side // vision.get("patch_size", 14)
    rows = 1 + max((h // side) * (w // side) for h, w in config.get("image_grid_pinpoints") or [[2 * side, 2 * side]])
    towers = {"clip": f"CLIP ViT, {side} px, {cells}x{cells} tokens and a class token for each of up to {rows} rows"}
    return card(load, config, name, "shared", towers, rows * cells**2, **more)


LLAVA_NEXT_7B = card_for(
    LLAVA_NEXT_7B_CONFIG,
    "llava-next-7b",
    licence="LLAMA 2 Community License",
    weights="llava-hf/llava-v1.6-vicuna-7b-hf",
    note="tokens of a square image; fewer where its aspect leaves padding",
)
