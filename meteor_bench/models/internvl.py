"""InternVL3 (arXiv 2504.10479) and InternVL3.5 (arXiv 2508.18265) as transformers has them.

An image is cut into tiles of its aspect and, where there are several, a small copy behind them; each is a row of an
InternViT. The class token goes, each 2 x 2 patches become one token (pixel shuffle), and an MLP projects it: 256 tokens
for a row. All rows of an image stand between <img> and </img>. A video is "Frame1: " and so on, each frame one row.

Patches are pruned one by one, and the shuffle wants four: it is a fusion on one grid, where the nearest patch that is
left takes the place of one that is gone (`core.cells.densify`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Look, ModelCard, Scene
from meteor_bench.models.decoders import CausalLM, LlamaDecoder
from meteor_bench.models.fusions import ShuffleFusion, enclosed
from meteor_bench.models.hub_family import Encoders, HubAdapter, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library, is_video
from meteor_bench.models.intern_vit import InternTower

__all__ = [
    "INTERNVL",
    "INTERNVL3_1B",
    "INTERNVL3_2B",
    "INTERNVL3_5_1B",
    "INTERNVL3_5_2B",
    "INTERNVL3_5_4B",
    "INTERNVL3_5_8B",
    "INTERNVL3_5_14B",
    "INTERNVL3_5_38B",
    "INTERNVL3_8B",
    "INTERNVL3_14B",
    "INTERNVL3_38B",
    "InternAdapter",
    "InternProcessor",
    "card_for",
]

START, END = "<img>", "</img>"
DECODERS = ("qwen2", "qwen3", "llama")
MOST = 12  # tiles of an image, where the processor's files do not say it


class InternProcessor(HubProcessor):
    """The library's image and video processors: tiles, small copies and frames are rows."""

    def pixels(self, media: Sequence[Any]) -> Tensor:
        return self.look(media).pixels

    def look(self, media: Sequence[Any]) -> Look:
        """The scene's sizes are how many rows each image has, and 1."""
        if is_video(media):
            made = self.videos(videos=[list(media)], do_sample_frames=False, return_tensors="pt")
            return Look(made["pixel_values_videos"][0], Scene(clip=True))
        made = self.images(images=list(media), crop_to_patches=True, return_tensors="pt")
        return Look(made["pixel_values"], Scene(sizes=tuple((int(rows), 1) for rows in made["num_patches"])))

    def scene(self, media: Sequence[Any]) -> Scene:
        return self.look(media).scene

    def opened(self, texts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """Ids before each image, between each two and behind the last, with what opens and closes an image."""
        start, end, last = tuple(self.text.encode(START)), tuple(self.text.encode(END)), len(texts) - 1
        return [
            (*(end if i > 0 else ()), *text, *(start if i < last else ())) for i, text in enumerate(map(tuple, texts))
        ]

    def frames_said(self, count: int) -> list[tuple[int, ...]]:
        """Ids before each frame of a video, and behind the last."""
        said = [f"{'' if i == 0 else chr(10)}Frame{i + 1}: " for i in range(count)]
        return self.opened([*(self.text.encode(one) for one in said), ()])


class InternAdapter(HubAdapter):
    """One InternViT behind tiles or frames, pixel shuffle, one projector."""

    template = "<|im_start|>user\n{images}{question}<|im_end|>\n<|im_start|>assistant\n"
    fusion = "shared"
    videos = True

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        vision = config.get("vision_config", {})
        side, patch = (_side(vision.get(key, default)) for key, default in (("image_size", 448), ("patch_size", 14)))
        cells = side // patch
        said = f"InternViT, {side} px, {cells}x{cells} tokens and a class token for each tile or frame"
        return Encoders({"vit": said}, (MOST + 1) * (cells // 2) ** 2)

    def check(self, config: Any, name: str) -> None:
        vision, kind = config.vision_config, config.text_config.model_type
        if config.vision_feature_layer != -1 or config.vision_feature_select_strategy != "default":
            raise ModelError(
                f"'{name}' has vision_feature_layer={config.vision_feature_layer} and vision_feature_select_strategy="
                f"'{config.vision_feature_select_strategy}'; supported: -1 and 'default'"
            )
        if kind not in DECODERS:
            raise ModelError(f"'{name}' has a language model of type '{kind}'; supported: {', '.join(DECODERS)}")
        for key in ("image_size", "patch_size"):
            if len(set(getattr(vision, key))) > 1:
                raise ModelError(f"'{name}' has {key}={list(getattr(vision, key))}; supported: squares")
        cells = vision.image_size[0] // vision.patch_size[0]
        if config.downsample_ratio != 0.5 or cells % 2:
            raise ModelError(
                f"'{name}' has downsample_ratio={config.downsample_ratio} on {cells}x{cells} patches; "
                "supported: 0.5 on an even number"
            )

    def media(self, config: Any) -> Media:
        from transformers import GotOcr2ImageProcessor, InternVLVideoProcessor

        size = dict.fromkeys(("height", "width"), config.vision_config.image_size[0])
        return Media(GotOcr2ImageProcessor(size=size), InternVLVideoProcessor(size=size))

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return InternProcessor(library)

    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        assert isinstance(processor, InternProcessor)
        body, side = model.model, config.vision_config.image_size[0]
        decoder, tower = (
            LlamaDecoder(CausalLM(body.language_model, model.lm_head)),
            InternTower("vit", body.vision_tower),
        )
        ratio = config.downsample_ratio
        fusion = ShuffleFusion(
            body.multi_modal_projector, "vit", lambda x: body.pixel_shuffle(x, scale_factor=ratio), int(1 / ratio)
        )

        def scenes(scene: Scene) -> Mapping[str, Any]:
            if scene.clip:
                return {
                    "block": lambda grid: enclosed(decoder, [grid.h * grid.w] * grid.t, processor.frames_said(grid.t))
                }
            rows = [count for count, _ in scene.sizes]
            texts = processor.opened(processor.around(len(rows)))
            return {"block": lambda grid: enclosed(decoder, [grid.h * grid.w * count for count in rows], texts)}

        return VLM(
            name=name,
            towers={"vit": tower},
            fusion=fusion,
            decoder=decoder,
            processor=processor,
            reference=lambda grid: fusion.common({"vit": grid}).n,
            native=(side, side),
            resizable=False,
            scenes=scenes,
        )


def _side(value: Any) -> int:
    """Of a square, given as one number or two."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first if isinstance(first, int) and first > 0 else 1


INTERNVL = HubFamily("InternVLConfig", "InternVLForConditionalGeneration", "InternVLProcessor", InternAdapter())
card_for = INTERNVL.card

SMALL: Mapping[str, Any] = {  # InternViT-300M
    "model_type": "internvl_vision",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "image_size": [448, 448],
    "patch_size": [14, 14],
}
LARGE: Mapping[str, Any] = {  # InternViT-6B
    **SMALL,
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 45,
    "num_attention_heads": 25,
    "attention_bias": False,
    "use_qk_norm": True,
    "norm_type": "rms_norm",
}


def _text(kind: str, hidden: int, inner: int, layers: int, heads: int, kv: int) -> Mapping[str, Any]:
    """The `text_config` of a Qwen2.5 or a Qwen3."""
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "max_position_embeddings": 32768 if kind == "qwen2" else 40960,
        "vocab_size": 151674 if kind == "qwen2" else 151936,
        "tie_word_embeddings": False,
        "eos_token_id": 151645,
        **({} if kind == "qwen2" else {"head_dim": 128}),
    }


def _row(name: str, text: Mapping[str, Any], vision: Mapping[str, Any], **more: Any) -> ModelCard:
    """A published size; ``more`` as for `HubFamily.card`."""
    config = {
        "model_type": "internvl",
        "image_token_id": 151667 if text["model_type"] == "qwen2" else 151671,
        "tie_word_embeddings": False,
        "text_config": text,
        "vision_config": vision,
    }
    return card_for(config, name, note="of 12 tiles and the small copy; 256 for a tile or frame", **more)


def _three(size: str, text: Mapping[str, Any], vision: Mapping[str, Any] = SMALL) -> ModelCard:
    return _row(f"internvl3-{size.lower()}", text, vision, weights=f"OpenGVLab/InternVL3-{size}-hf")


def _three_five(size: str, text: Mapping[str, Any], vision: Mapping[str, Any] = SMALL) -> ModelCard:
    weights = f"OpenGVLab/InternVL3_5-{size}-HF"
    return _row(f"internvl3.5-{size.lower()}", text, vision, weights=weights, licence="Apache-2.0")


INTERNVL3_1B = _three("1B", _text("qwen2", 896, 4864, 24, 14, 2))
INTERNVL3_2B = _three("2B", _text("qwen2", 1536, 8960, 28, 12, 2))
INTERNVL3_8B = _three("8B", _text("qwen2", 3584, 18944, 28, 28, 4))
INTERNVL3_14B = _three("14B", _text("qwen2", 5120, 13824, 48, 40, 8))
INTERNVL3_38B = _three("38B", _text("qwen2", 5120, 27648, 64, 40, 8), LARGE)
INTERNVL3_5_1B = _three_five("1B", _text("qwen3", 1024, 3072, 28, 16, 8))
INTERNVL3_5_2B = _three_five("2B", _text("qwen3", 2048, 6144, 28, 16, 8))
INTERNVL3_5_4B = _three_five("4B", _text("qwen3", 2560, 9728, 36, 32, 8))
INTERNVL3_5_8B = _three_five("8B", _text("qwen3", 4096, 12288, 36, 32, 8))
INTERNVL3_5_14B = _three_five("14B", _text("qwen3", 5120, 17408, 40, 40, 8))
INTERNVL3_5_38B = _three_five("38B", _text("qwen3", 5120, 25600, 64, 64, 8), LARGE)
