"""Qwen2.5-VL (arXiv 2502.13923) as transformers has it: a ViT with windows, a 2 x 2 patch merger, positions on 3 axes.

An image keeps its aspect: it is resized to multiples of a cell (2 x 2 patches) within the processor's limits. Frames of
a video come in pairs, each pair a row of the tower. Images of one prompt that differ in size are rows of the largest
height and width, whose cells beyond an image's own are no tokens.

Generated tokens go on from the position of the last text token, as the library's `generate` does, also where the times
of a long video are beyond it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from meteor_bench.core.model import VLM, Clip, Decoder, Fusion, Look, ModelCard, Scene
from meteor_bench.core.tokens import Block, Grid
from meteor_bench.models.decoders import CausalLM, MropeDecoder
from meteor_bench.models.hub_family import Encoders, HubAdapter, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library, is_video
from meteor_bench.models.mrope_block import block_of, mixed_block
from meteor_bench.models.qwen_vit import CellProjector, QwenTower

__all__ = [
    "QWEN2_5_VL",
    "QWEN2_5_VL_3B",
    "QWEN2_5_VL_7B",
    "QWEN2_5_VL_32B",
    "QWEN2_5_VL_72B",
    "Encoder",
    "QwenAdapter",
    "QwenProcessor",
    "card_for",
    "qwen_key",
]

NATIVE_CELLS = 24  # of the image that methods plan for; real ones come in any size

QWEN2_5_VL_7B_CONFIG: Mapping[str, Any] = {
    "model_type": "qwen2_5_vl",
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "tie_word_embeddings": False,
    "vision_config": {
        "model_type": "qwen2_5_vl",
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "text_config": {
        "model_type": "qwen2_5_vl_text",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}


def qwen_key(key: str) -> str | None:
    """A weight's name in a file, old or new -> its name in transformers 5."""
    key = re.sub(r"^visual\.", "model.visual.", key)
    return re.sub(r"^model\.(?!visual\.|language_model\.)", "model.language_model.", key)


class QwenProcessor(HubProcessor):
    """The library's image and video processors, their flat patches put back into frames.

    Args:
        vision: configuration of the tower.
    """

    def __init__(self, library: Library, vision: Any) -> None:
        super().__init__(library)
        self.vision = vision

    def pixels(self, media: Sequence[Any]) -> Tensor:
        """[F, channels times frames in a pair, H, W]; an image is its own pair."""
        return self.look(media).pixels

    def look(self, media: Sequence[Any]) -> Look:
        """The scene's sizes are heights and widths in cells, where images differ."""
        if is_video(media):
            made = self.videos(videos=[list(media)], do_sample_frames=False, return_tensors="pt")
            flat, grids = made["pixel_values_videos"], made["video_grid_thw"]
        else:
            made = self.images(images=list(media), return_tensors="pt")
            flat, grids = made["pixel_values"], made["image_grid_thw"]
        sizes = [(int(h), int(w)) for _, h, w in grids.tolist()]
        if len(set(sizes)) == 1:
            return Look(self._frames(flat, int(grids[:, 0].sum()), *sizes[0]), self.scene(media))
        m, p = self.vision.spatial_merge_size, self.vision.patch_size
        height, width = (p * max(side) for side in zip(*sizes, strict=True))
        parts = flat.split([h * w for h, w in sizes])
        frames = [self._frames(part, 1, h, w) for part, (h, w) in zip(parts, sizes, strict=True)]
        padded = [nn.functional.pad(f, (0, width - f.shape[-1], 0, height - f.shape[-2])) for f in frames]
        return Look(torch.cat(padded), Scene(sizes=tuple((h // m, w // m) for h, w in sizes)))

    def _frames(self, flat: Tensor, rows: int, height: int, width: int) -> Tensor:
        """Flat patches, cell by cell -> [rows, channels times frames in a pair, H, W]; height and width in patches."""
        m, p = self.vision.spatial_merge_size, self.vision.patch_size
        cells = flat.reshape(rows, height // m, width // m, m, m, -1, p, p)  # channels and frames of a pair together
        pixels: Tensor = cells.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(rows, -1, height * p, width * p)
        return pixels

    def scene(self, media: Sequence[Any]) -> Scene:
        if not is_video(media):
            return super().scene(media)
        fps = media.fps if isinstance(media, Clip) else Clip.fps
        return Scene(clip=True, seconds=self.vision.temporal_patch_size / fps)


class Encoder(NamedTuple):
    """A tower and its projector."""

    tower: QwenTower
    fusion: Fusion


class QwenAdapter(HubAdapter):
    """One tower of any size, whose cells are projected each by itself."""

    template = "<|im_start|>user\n{images}{question}<|im_end|>\n<|im_start|>assistant\n"
    videos = True

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        vision = config.get("vision_config", {})
        cell = vision.get("patch_size", 14) * vision.get("spatial_merge_size", 2)
        return Encoders({"vit": f"ViT with windows, any size, a token for each {cell}x{cell} pixels"}, NATIVE_CELLS**2)

    def key(self, key: str) -> str | None:
        return qwen_key(key)

    def media(self, config: Any) -> Media:
        from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

        patch, merge = config.vision_config.patch_size, config.vision_config.spatial_merge_size
        return Media(
            Qwen2VLImageProcessor(patch_size=patch, merge_size=merge),
            Qwen2VLVideoProcessor(patch_size=patch, merge_size=merge),
        )

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return QwenProcessor(library, config.vision_config)

    def decoder(self, language_model: Any, head: Any) -> Decoder:
        """The language model."""
        return MropeDecoder(CausalLM(language_model, head))

    def encoder(self, visual: Any) -> Encoder:
        """The tower and its projector."""
        return Encoder(QwenTower("vit", visual), CellProjector(visual.merger))

    def clip_block(self, decoder: Decoder, processor: HubProcessor, grid: Grid, scene: Scene) -> Block:
        """The visual block of a video."""
        assert isinstance(processor, QwenProcessor)
        return block_of(decoder, grid, [(), ()], processor.vision.tokens_per_second * scene.seconds)

    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        body = model.model
        decoder, (tower, fusion) = self.decoder(body.language_model, model.lm_head), self.encoder(body.visual)

        def scenes(scene: Scene) -> Mapping[str, Any]:
            if scene.sizes:
                texts = processor.around(len(scene.sizes))
                return {
                    "towers": {"vit": tower.sized(scene.sizes)},
                    "reference": lambda grid: sum(h * w for h, w in scene.sizes),
                    "block": lambda grid: mixed_block(decoder, grid, scene.sizes, texts),
                }
            if scene.clip:
                return {"block": lambda grid: self.clip_block(decoder, processor, grid, scene)}
            return {"block": lambda grid: block_of(decoder, grid, processor.around(grid.t))}

        side = NATIVE_CELLS * tower.cell
        return VLM(
            name=name,
            towers={"vit": tower},
            fusion=fusion,
            decoder=decoder,
            processor=processor,
            reference=lambda grid: grid.n,
            native=(side, side),
            scenes=scenes,
        )


QWEN2_5_VL = HubFamily("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor", QwenAdapter())
card_for = QWEN2_5_VL.card


def _row(size: str, licence: str, text: Mapping[str, Any], vision: Mapping[str, Any]) -> ModelCard:
    """A published size.

    Args:
        text, vision: where its config.json differs from that of 7B.
    """
    config = {
        **QWEN2_5_VL_7B_CONFIG,
        "tie_word_embeddings": text.get("tie_word_embeddings", False),
        "text_config": {**QWEN2_5_VL_7B_CONFIG["text_config"], **text},
        "vision_config": {**QWEN2_5_VL_7B_CONFIG["vision_config"], **vision},
    }
    weights, note = f"Qwen/Qwen2.5-VL-{size}-Instruct", "tokens of a square image of 672 px"
    return card_for(config, f"qwen2.5-vl-{size.lower()}", licence=licence, weights=weights, note=note)


QWEN2_5_VL_3B = _row(
    "3B",
    "Qwen Research License",
    {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    {"out_hidden_size": 2048},
)
QWEN2_5_VL_7B = _row("7B", "Apache-2.0", {}, {})
QWEN2_5_VL_32B = _row(
    "32B",
    "Apache-2.0",
    {
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
    {"intermediate_size": 3456, "out_hidden_size": 5120},
)
QWEN2_5_VL_72B = _row(
    "72B",
    "Qwen License",
    {
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
    {"intermediate_size": 3456, "out_hidden_size": 8192},
)
