"""Qwen3-VL (arXiv 2511.21631) as transformers has it: Qwen2.5-VL with another encoder, DeepStack and timestamps.

Three blocks of the encoder are tapped. What they say of a cell goes through a projector each and is added to the cell's
token behind the first three layers of the language model (`Tokens.deep`); it is dropped and merged with its token.
Positions have three axes that take turns among the frequencies. A video is its pairs of frames, each an image of its
own with its time written before it: "<1.5 seconds>". transformers writes all of that where the template has the clip,
so that the template's own tokens around a clip enclose those around each pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import Clip, Decoder, ModelCard, Scene
from meteor_bench.core.tokens import Block, Grid
from meteor_bench.models.hub_family import Encoders, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library, is_video
from meteor_bench.models.mrope_block import block_of
from meteor_bench.models.qwen2_5_vl import NATIVE_CELLS, Encoder, QwenAdapter, QwenProcessor
from meteor_bench.models.qwen_vit import DeepProjector, DeepTower

__all__ = [
    "QWEN3_VL",
    "QWEN3_VL_2B",
    "QWEN3_VL_4B",
    "QWEN3_VL_8B",
    "QWEN3_VL_32B",
    "VISION",
    "Qwen3Adapter",
    "Qwen3Processor",
    "card_for",
    "row",
    "text_of",
]

VISION: Mapping[str, Any] = {  # of 8B and larger; the keys are config.json's
    "model_type": "qwen3_vl",
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}
SMALL_VISION: Mapping[str, Any] = {
    **VISION,
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}


class Qwen3Processor(QwenProcessor):
    """Qwen2.5-VL's, and times of frames in words.

    Args:
        config: of the model.
    """

    def __init__(self, library: Library, config: Any) -> None:
        super().__init__(library, config.vision_config)
        self.start, self.end = config.vision_start_token_id, config.vision_end_token_id

    def scene(self, media: Sequence[Any]) -> Scene:
        if not is_video(media):
            return super().scene(media)
        assert isinstance(media, Clip)
        pair = self.vision.temporal_patch_size
        taken = [i / media.fps for i in range(len(media))]
        taken += taken[-1:] * (-len(taken) % pair)  # the last frame is shown again where a pair lacks one
        return Scene(clip=True, times=tuple((taken[i] + taken[i + pair - 1]) / 2 for i in range(0, len(taken), pair)))

    def stamps(self, times: Sequence[float]) -> list[tuple[int, ...]]:
        """Ids before each pair of frames, and behind the last."""
        said = [(*self.text.encode(f"<{seconds:.1f} seconds>"), self.start) for seconds in times]
        return [said[0], *((self.end, *ids) for ids in said[1:]), (self.end,)]


class Qwen3Adapter(QwenAdapter):
    """One tower of any size, tapped at some blocks, whose cells are projected each by itself."""

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        vision = config.get("vision_config", {})
        cell = vision.get("patch_size", 16) * vision.get("spatial_merge_size", 2)
        taps = vision.get("deepstack_visual_indexes", (8, 16, 24))
        said = f"ViT, any size, a token for each {cell}x{cell} pixels, and what {len(taps)} of its blocks say of it"
        return Encoders({"vit": said}, NATIVE_CELLS**2)

    def check(self, config: Any, name: str) -> None:
        vision = config.vision_config
        taps = list(vision.deepstack_visual_indexes)
        if taps != sorted(set(taps)) or any(tap >= vision.depth for tap in taps):
            raise ModelError(
                f"'{name}' has deepstack_visual_indexes={taps}; supported: blocks of its encoder in ascending order, "
                f"each once, from 0 to {vision.depth - 1}"
            )

    def media(self, config: Any) -> Media:
        from transformers import Qwen2VLImageProcessor, Qwen3VLVideoProcessor

        patches = {"patch_size": config.vision_config.patch_size, "merge_size": config.vision_config.spatial_merge_size}
        half = [0.5, 0.5, 0.5]
        size = {"shortest_edge": 65536, "longest_edge": 16777216}  # of the published checkpoints, in pixels
        images = Qwen2VLImageProcessor(**patches, size=size, image_mean=half, image_std=half)
        return Media(images, Qwen3VLVideoProcessor(**patches))

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return Qwen3Processor(library, config)

    def encoder(self, visual: Any) -> Encoder:
        return Encoder(DeepTower("vit", visual), DeepProjector(visual.merger, visual.deepstack_merger_list))

    def clip_block(self, decoder: Decoder, processor: HubProcessor, grid: Grid, scene: Scene) -> Block:
        assert isinstance(processor, Qwen3Processor)
        return block_of(decoder, grid, processor.stamps(scene.times))


QWEN3_VL = HubFamily("Qwen3VLConfig", "Qwen3VLForConditionalGeneration", "Qwen3VLProcessor", Qwen3Adapter())
card_for = QWEN3_VL.card


def text_of(hidden: int, inner: int, layers: int, heads: int, kv: int = 8) -> Mapping[str, Any]:
    """The `text_config` of a published size."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
        "vocab_size": 151936,
        "eos_token_id": 151645,
    }


def row(
    family: HubFamily,
    size: str,
    text: Mapping[str, Any],
    vision: Mapping[str, Any],
    *,
    tied: bool = False,
    note: str = "",
) -> ModelCard:
    """A published size.

    Args:
        tied: whether the vocabulary projection is the embedding.
        note: besides what the tokens are of.
    """
    kind = str(vision["model_type"]).removesuffix("_vision")
    config = {
        "model_type": kind,
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "tie_word_embeddings": tied,
        "text_config": {**text, "model_type": f"{kind}_text", "tie_word_embeddings": tied},
        "vision_config": {**vision, "out_hidden_size": text["hidden_size"]},
    }
    said = "; ".join(part for part in ("tokens of a square image of 768 px", note) if part)
    weights = f"Qwen/Qwen3-VL-{size}-Instruct"
    return family.card(config, f"qwen3-vl-{size.lower()}", licence="Apache-2.0", weights=weights, note=said)


QWEN3_VL_2B = row(QWEN3_VL, "2B", text_of(2048, 6144, 28, 16), SMALL_VISION, tied=True)
QWEN3_VL_4B = row(QWEN3_VL, "4B", text_of(2560, 9728, 36, 32), SMALL_VISION, tied=True)
QWEN3_VL_8B = row(QWEN3_VL, "8B", text_of(4096, 12288, 36, 32), VISION)
QWEN3_VL_32B = row(QWEN3_VL, "32B", text_of(5120, 25600, 64, 64), VISION)
