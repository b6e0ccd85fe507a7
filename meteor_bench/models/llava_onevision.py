"""LLaVA-OneVision (arXiv 2408.03326) as transformers has it, and LLaVA-Video (arXiv 2410.02713), its sibling.

One SigLIP tower, an MLP, a Qwen2. An image comes as a small copy and tiles (`models.anyres`); of several images each is
its small copy; the frames of a video are projected, then pooled to a quarter of their cells.

transformers pools bilinearly, 27 x 27 to 14 x 14, and puts one newline behind the last frame. LLaVA-Video has no form
of its own there; two keys of its original configuration, read here from config.json as well, tell it apart:
`mm_spatial_pool_mode` "average" (27 x 27 to 13 x 13 = 169) and `mm_newline_position` "grid" (a newline behind each row
of each frame).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Fusion, ModelCard, Scene
from meteor_bench.core.tokens import Block, Grid, Tokens
from meteor_bench.models.anyres import Tiling, assemble
from meteor_bench.models.fusions import linear_flops
from meteor_bench.models.hub_family import Encoders, HubAdapter, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library, is_video
from meteor_bench.models.llava import check_features, tower_of
from meteor_bench.models.llava_next import sizes_of

__all__ = [
    "LLAVA_ONEVISION",
    "LLAVA_ONEVISION_0_5B",
    "LLAVA_ONEVISION_7B",
    "LLAVA_ONEVISION_72B",
    "LLAVA_VIDEO_7B",
    "FrameProcessor",
    "OneVisionAdapter",
    "PooledFusion",
    "card_for",
]

POOLS = ("bilinear", "average")
NEWLINES = ("one_token", "grid")

LLAVA_ONEVISION_7B_CONFIG: Mapping[str, Any] = {
    "model_type": "llava_onevision",
    "image_token_index": 151646,
    "video_token_index": 151647,
    "vision_aspect_ratio": "anyres_max_9",
    "tie_word_embeddings": False,
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 26,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "vision_use_head": False,
    },
    "text_config": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "vocab_size": 152128,  # Qwen2's, two tokens more, padded to 64 by transformers' conversion script
    },
}


class PooledFusion(Fusion):
    """One projector over all cells of all frames, then each frame's map pooled.

    Args:
        mode: bilinear (sides halved, rounded up) or average (rounded down).
    """

    kind = "shared"

    def __init__(self, projector: nn.Module, tower: str, mode: str) -> None:
        super().__init__()
        self.projector, self.tower, self.mode = projector, tower, mode

    def common(self, grids: Mapping[str, Grid]) -> Grid:
        t, h, w = grids[self.tower]
        return Grid(t, ceil(h / 2), ceil(w / 2)) if self.mode == "bilinear" else Grid(t, h // 2, w // 2)

    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        x, (_, h, w), common = self.projector(towers[self.tower]), grids[self.tower], self.common(grids)
        planes = x.reshape(-1, h, w, x.shape[-1]).permute(0, 3, 1, 2)  # [B·t, D, h, w]
        if self.mode == "bilinear":
            planes = interpolate(planes, (common.h, common.w), mode="bilinear")
        else:
            planes = avg_pool2d(planes, 2)
        return planes.permute(0, 2, 3, 1).reshape(len(x), common.n, -1)

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        return tokens

    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        return {self.tower: aligned}

    def flops_align(self, grids: Mapping[str, Grid]) -> int:
        return linear_flops(self.projector, grids[self.tower].n)

    def flops(self, counts: Mapping[str, int]) -> int:
        return 0


class FrameProcessor(HubProcessor):
    """The library's image and video processors: tiles, images or frames are rows.

    Args:
        tiling: how the model cuts a single image.
    """

    def __init__(self, library: Library, tiling: Tiling) -> None:
        super().__init__(library)
        self.tiling = tiling

    def pixels(self, media: Sequence[Any]) -> Tensor:
        pixels: Tensor
        if is_video(media):
            made = self.videos(videos=[list(media)], do_sample_frames=False, return_tensors="pt")
            pixels = made["pixel_values_videos"][0]
        else:
            pixels = self.images(images=[list(media)], return_tensors="pt")["pixel_values"]  # [n, rows, 3, H, W]
            pixels = pixels[0, : self.tiling.rows(sizes_of(media)[0])] if len(media) == 1 else pixels[:, 0]
        return pixels

    def scene(self, media: Sequence[Any]) -> Scene:
        if is_video(media):
            return Scene(clip=True)
        return Scene(sizes=sizes_of(media) if len(media) == 1 else ((0, 0),) * len(media))


def frame_block(grid: Grid, newline: Tensor, where: str) -> Block:
    """Frames one after another, with one newline behind the last or one behind each row of each."""
    rows, width = (grid.t * grid.h, grid.w) if where == "grid" else (1, grid.n)
    cells = torch.arange(rows * width, device=newline.device)
    ends = torch.arange(rows, device=newline.device) * (width + 1) + width
    return Block(cells + cells // width, newline.expand(rows, -1), ends)


def clip_of(model: Any, config: Any) -> Mapping[str, Any]:
    """What `VLM.scenes` says of a video."""
    body, (pool, where) = model.model, _variant(config)
    fusion = PooledFusion(body.multi_modal_projector, "siglip", pool)

    def newline() -> Tensor:  # where its neighbours are: a model may be spread over several devices
        vector: Tensor = body.image_newline
        return vector.to(next(fusion.projector.parameters()).device)

    return {
        "fusion": fusion,
        "reference": lambda grid: fusion.common({"siglip": grid}).n,
        "block": lambda grid: frame_block(grid, newline(), where),
    }


def _variant(config: Any) -> tuple[str, str]:
    """How frames are pooled, and where newlines stand."""
    found = []
    for key, known in (("mm_spatial_pool_mode", POOLS), ("mm_newline_position", NEWLINES)):
        found.append(getattr(config, key, known[0]))
        if found[-1] not in known:
            raise ModelError(f"config.json has {key}={found[-1]!r}; known: {', '.join(known)}")
    return found[0], found[1]


def _most(aspect: Any) -> int | None:
    """Most tiles of an image, which "anyres_max_<n>" names; None where it does not."""
    said = str(aspect).removeprefix("anyres_max_")
    return int(said) if said.isdecimal() and len(said) < 4 and int(said) > 0 else None


def _tiling(config: Any) -> Tiling:
    vision = config.vision_config
    pinpoints = [list(size) for size in config.image_grid_pinpoints]
    most = _most(config.vision_aspect_ratio)
    return Tiling(pinpoints, vision.image_size, vision.image_size // vision.patch_size, most)


class OneVisionAdapter(HubAdapter):
    """One SigLIP tower behind tiles or frames."""

    template = "<|im_start|>user {images}{question}<|im_end|><|im_start|>assistant\n"
    fusion = "shared"
    videos = True

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        vision = config.get("vision_config", {})
        side = vision.get("image_size", 384)
        cells = side // vision.get("patch_size", 14)
        most = _most(config.get("vision_aspect_ratio", "9")) or 9  # `check` refuses any other
        towers = {"siglip": f"SigLIP ViT, {side} px, {cells}x{cells} tokens for each tile or frame"}
        return Encoders(towers, (most + 1) * cells**2)

    def check(self, config: Any, name: str) -> None:
        check_features(config, name)
        _variant(config)
        aspect = config.vision_aspect_ratio
        if _most(aspect) is None:
            raise ModelError(f"'{name}' has vision_aspect_ratio '{aspect}'; known: 'anyres_max_<n>'")

    def media(self, config: Any) -> Media:
        from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionVideoProcessor

        size = dict.fromkeys(("height", "width"), config.vision_config.image_size)
        images = LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=_tiling(config).pinpoints)
        return Media(images, LlavaOnevisionVideoProcessor(size=size))

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return FrameProcessor(library, _tiling(config))

    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        tower = tower_of("siglip", model.model.vision_tower, config)
        clip = partial(clip_of, model, config)
        return assemble(name, model, tower, processor, _tiling(config), each=False, clip=clip)


LLAVA_ONEVISION = HubFamily(
    "LlavaOnevisionConfig", "LlavaOnevisionForConditionalGeneration", "LlavaOnevisionProcessor", OneVisionAdapter()
)
card_for = LLAVA_ONEVISION.card


def _row(size: str, text: Mapping[str, Any]) -> ModelCard:
    """A published size.

    Args:
        text: where its Qwen2 differs from that of 7B.
    """
    config = {
        **LLAVA_ONEVISION_7B_CONFIG,
        "tie_word_embeddings": text.get("tie_word_embeddings", False),
        "text_config": {**LLAVA_ONEVISION_7B_CONFIG["text_config"], **text},
    }
    return card_for(
        config,
        f"llava-onevision-{size}",
        licence="Apache-2.0",
        weights=f"llava-hf/llava-onevision-qwen2-{size}-ov-hf",
        note="at most that many tokens for an image, about; 196 for a frame",
    )


LLAVA_ONEVISION_0_5B = _row(
    "0.5b",
    {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 152000,
        "tie_word_embeddings": True,
    },
)
LLAVA_ONEVISION_7B = _row("7b", {})
LLAVA_ONEVISION_72B = _row(
    "72b",
    {
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
)
LLAVA_VIDEO_7B = card_for(
    {**LLAVA_ONEVISION_7B_CONFIG, "mm_spatial_pool_mode": "average", "mm_newline_position": "grid"},
    "llava-video-7b",
    licence="Apache-2.0",
    published=False,
    note="169 tokens for a frame; no weights in transformers' format were published",
)
