"""LLaVA-NeXT (1.6) as transformers has it: LLaVA-1.5 whose images come as a small copy and up to four tiles.

See `models.anyres` for what becomes of the tiles. It has no video, so the frames of a clip are images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.model import VLM, Scene
from meteor_bench.models.anyres import Tiling, assemble
from meteor_bench.models.hub_family import Encoders, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library
from meteor_bench.models.llava import LLAVA_7B_CONFIG, LlavaAdapter, clip_rows, tower_of

__all__ = ["LLAVA_NEXT", "LLAVA_NEXT_7B", "LlavaNextAdapter", "TileProcessor", "card_for", "sizes_of"]

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
        tiling: how the model cuts images.
    """

    def __init__(self, library: Library, tiling: Tiling) -> None:
        super().__init__(library)
        self.tiling = tiling

    def pixels(self, media: Sequence[Any]) -> Tensor:
        made = self.images(images=list(media), return_tensors="pt")["pixel_values"]  # [n, most rows of any, 3, H, W]
        counts = [self.tiling.rows(size) for size in sizes_of(media)]
        return torch.cat([rows[:count] for rows, count in zip(made, counts, strict=True)])

    def scene(self, media: Sequence[Any]) -> Scene:
        return Scene(sizes=sizes_of(media))


def _tiling(config: Any) -> Tiling:
    vision = config.vision_config
    pinpoints = [list(size) for size in config.image_grid_pinpoints]
    return Tiling(pinpoints, vision.image_size, vision.image_size // vision.patch_size)


class LlavaNextAdapter(LlavaAdapter):
    """LLaVA-1.5's parts, behind tiles."""

    fusion = "shared"

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        side = config.get("vision_config", {}).get("image_size", 336)
        pinpoints = config.get("image_grid_pinpoints") or [[2 * side, 2 * side]]
        return clip_rows(config, 1 + max((h // side) * (w // side) for h, w in pinpoints))

    def media(self, config: Any) -> Media:
        from transformers import LlavaNextImageProcessor

        side = config.vision_config.image_size
        crop = {"height": side, "width": side}
        pinpoints = _tiling(config).pinpoints
        return Media(
            LlavaNextImageProcessor(size={"shortest_edge": side}, crop_size=crop, image_grid_pinpoints=pinpoints)
        )

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return TileProcessor(library, _tiling(config))

    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        tower = tower_of("clip", model.model.vision_tower, config)
        return assemble(name, model, tower, processor, _tiling(config), each=True)


LLAVA_NEXT = HubFamily("LlavaNextConfig", "LlavaNextForConditionalGeneration", "LlavaNextProcessor", LlavaNextAdapter())
card_for = LLAVA_NEXT.card

LLAVA_NEXT_7B = card_for(
    LLAVA_NEXT_7B_CONFIG,
    "llava-next-7b",
    licence="LLAMA 2 Community License",
    weights="llava-hf/llava-v1.6-vicuna-7b-hf",
    note="tokens of a square image; fewer where its aspect leaves padding",
)
