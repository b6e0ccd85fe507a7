"""SmolVLM2 (arXiv 2504.05299) as transformers has it: SigLIP on tiles, pixel shuffle, one matrix, a small Llama.

An image is enlarged to a multiple of the encoder's side and cut into tiles, behind which stands a small copy of it;
each is a row, and each row's place is written before it. A small image is one row. Frames of a video are one row each,
the time before each and an introduction before the first. The words are transformers' own.

transformers writes a video's words before it tokenises. Here what stands before and behind them is tokenised by itself,
which gives the same ids but for a question that begins with white space. How long a video is, is taken to be the time
of its last frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.errors import ModelError
from meteor_bench.core.model import VLM, Clip, Look, ModelCard, Scene
from meteor_bench.core.tokens import Tokens
from meteor_bench.models.decoders import CausalLM, LlamaDecoder
from meteor_bench.models.fusions import ShuffleFusion, enclosed
from meteor_bench.models.hub_family import Encoders, HubAdapter, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library, is_video
from meteor_bench.models.towers import VitTower, as_they_are

__all__ = [
    "SMOLVLM",
    "SMOLVLM2_2_2B",
    "SMOLVLM2_256M",
    "SMOLVLM2_500M",
    "SmolAdapter",
    "SmolProcessor",
    "SmolTower",
    "card_for",
]

IMAGE, FAKE, WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"  # as the published tokenizers write them
SIDES = 4  # tiles along the longer side of an image, where the processor's files do not say it
DECODERS = ("llama", "qwen2", "qwen3")


class SmolTower(VitTower):
    """transformers' `SmolVLMVisionTransformer`: a SigLIP whose table of positions is told which patches are there."""

    def embed(self, pixels: Tensor) -> Tokens:
        grid = self.grid(*pixels.shape[-2:])
        seen = torch.ones(len(pixels), grid.h, grid.w, dtype=torch.bool, device=pixels.device)
        return Tokens.dense(self.model.embeddings(pixel_values=pixels, patch_attention_mask=seen), grid)


class SmolProcessor(HubProcessor):
    """The library's image and video processors: tiles, small copies and frames are rows."""

    def pixels(self, media: Sequence[Any]) -> Tensor:
        return self.look(media).pixels

    def look(self, media: Sequence[Any]) -> Look:
        """The scene's sizes are each image's tiles down and across, 0 and 0 for one that is not cut."""
        if is_video(media):
            assert isinstance(media, Clip)
            made = self.videos(videos=[list(media)], do_sample_frames=False, return_tensors="pt")
            times = tuple(i / media.fps for i in range(len(media)))
            return Look(made["pixel_values"][0], Scene(clip=True, times=times))
        made = self.images(images=[list(media)], return_row_col_info=True, return_tensors="pt")
        sizes = tuple((int(down), int(across)) for down, across in zip(made["rows"][0], made["cols"][0], strict=True))
        return Look(made["pixel_values"][0], Scene(sizes=sizes))

    def scene(self, media: Sequence[Any]) -> Scene:
        return self.look(media).scene

    def images_said(self, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
        """Ids before each row of a prompt's images, and behind the last.

        Args:
            sizes: tiles down and across of each image.
        """
        from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

        marks = {"fake_token_around_image": FAKE, "image_token": IMAGE, "global_image_token": WHOLE}
        around = self.around(len(sizes))
        said: list[tuple[int, ...]] = [()]
        for before, (down, across) in zip(around, sizes, strict=False):
            first, *others = self._pieces(get_image_prompt_string(down, across, 1, **marks))
            said = [*said[:-1], (*said[-1], *before, *first), *others]
        return [*said[:-1], (*said[-1], *around[-1])]

    def frames_said(self, times: Sequence[float]) -> list[tuple[int, ...]]:
        """Ids before each frame of a video, and behind the last.

        Args:
            times: in seconds.
        """
        from transformers.models.smolvlm import processing_smolvlm as own

        count = own.num2words(len(times)) if own.num2words else len(times)
        length = timedelta(seconds=int(times[-1]))
        said = " " + own.DEFAULT_VIDEO_INTRO.format(frame_count=count, video_duration=str(length))
        for seconds in times:
            minutes, rest = divmod(int(seconds), 60)
            said += own.FRAME_TIMESTAMP_MESSAGE.format(timestamp=f"{minutes:02d}:{rest:02d}")
            said += f"{FAKE}{WHOLE}{IMAGE}{FAKE}"
        question = "x"  # line breaks are tokenised with what follows them
        *pieces, last = self._pieces(said + own.DEFAULT_MEDIA_OUTTRO + question)
        return [*pieces, last[: len(last) - len(self.text.encode(question))]]

    def _pieces(self, said: str) -> list[tuple[int, ...]]:
        """Ids between the images of a text."""
        return [tuple(self.text.encode(piece)) for piece in said.split(IMAGE)]


class SmolAdapter(HubAdapter):
    """One SigLIP behind tiles or frames, pixel shuffle, one matrix."""

    template = "<|im_start|>User:{images}{question}<end_of_utterance>\nAssistant:"
    fusion = "shared"
    videos = True

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        vision, scale = config.get("vision_config", {}), config.get("scale_factor", 2)
        side = vision.get("image_size", 224)
        cells = side // vision.get("patch_size", 32)
        said = f"SigLIP ViT, {side} px, {cells}x{cells} tokens for each tile or frame"
        return Encoders({"siglip": said}, (SIDES**2 + 1) * (cells // scale) ** 2)

    def check(self, config: Any, name: str) -> None:
        vision, kind, scale = config.vision_config, config.text_config.model_type, config.scale_factor
        if kind not in DECODERS:
            raise ModelError(f"'{name}' has a language model of type '{kind}'; supported: {', '.join(DECODERS)}")
        cells = vision.image_size // vision.patch_size
        if scale < 1 or cells % scale:
            raise ModelError(
                f"'{name}' has scale_factor={scale} on {cells}x{cells} patches; supported: a divisor of {cells}"
            )

    def media(self, config: Any) -> Media:
        from transformers import SmolVLMImageProcessor, SmolVLMVideoProcessor

        side = config.vision_config.image_size
        sizes = {"size": {"longest_edge": SIDES * side}, "max_image_size": {"longest_edge": side}}
        return Media(SmolVLMImageProcessor(**sizes), SmolVLMVideoProcessor(**sizes))

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return SmolProcessor(library)

    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        assert isinstance(processor, SmolProcessor)
        body, side, scale = model.model, config.vision_config.image_size, config.scale_factor
        connector, decoder = body.connector, LlamaDecoder(CausalLM(body.text_model, model.lm_head))
        tower = SmolTower("siglip", body.vision_model, has_cls=False, post_norm=True, prepare=as_they_are)
        fusion = ShuffleFusion(
            connector.modality_projection, "siglip", lambda x: connector.pixel_shuffle(x.flatten(1, 2), scale), scale
        )

        def scenes(scene: Scene) -> Mapping[str, Any]:
            said = processor.frames_said(scene.times) if scene.clip else processor.images_said(scene.sizes)
            return {"block": lambda grid: enclosed(decoder, [grid.h * grid.w] * grid.t, said)}

        return VLM(
            name=name,
            towers={"siglip": tower},
            fusion=fusion,
            decoder=decoder,
            processor=processor,
            reference=lambda grid: fusion.common({"siglip": grid}).n,
            native=(side, side),
            resizable=False,
            scenes=scenes,
        )


SMOLVLM = HubFamily("SmolVLMConfig", "SmolVLMForConditionalGeneration", "SmolVLMProcessor", SmolAdapter())
card_for = SMOLVLM.card

SIGLIP_BASE: Mapping[str, Any] = {
    "model_type": "smolvlm_vision",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
SIGLIP_SO400M: Mapping[str, Any] = {
    "model_type": "smolvlm_vision",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}


def _row(size: str, hub: str, vision: Mapping[str, Any], scale: int, text: Sequence[int], theta: float) -> ModelCard:
    """A published size.

    Args:
        text: width, width of the MLP, layers, heads and key heads of the language model, a SmolLM2.
    """
    hidden, inner, layers, heads, kv = text
    config = {
        "model_type": "smolvlm",
        "image_token_id": 49190,
        "scale_factor": scale,
        "tie_word_embeddings": False,
        "vision_config": vision,
        "text_config": {
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": theta},
            "max_position_embeddings": 8192,
            "vocab_size": 49280,
            "eos_token_id": 49279,
            "tie_word_embeddings": False,
        },
    }
    tokens = (vision["image_size"] // vision["patch_size"] // scale) ** 2
    note = f"of {SIDES} x {SIDES} tiles and the small copy; {tokens} for a tile or frame"
    weights = f"HuggingFaceTB/{hub}"
    return card_for(config, f"smolvlm2-{size}", licence="Apache-2.0", weights=weights, note=note)


SMOLVLM2_256M = _row("256m", "SmolVLM2-256M-Video-Instruct", SIGLIP_BASE, 4, (576, 1536, 30, 9, 3), 1e5)
SMOLVLM2_500M = _row("500m", "SmolVLM2-500M-Video-Instruct", SIGLIP_BASE, 4, (960, 2560, 32, 15, 5), 1e5)
SMOLVLM2_2_2B = _row("2.2b", "SmolVLM2-2.2B-Instruct", SIGLIP_SO400M, 3, (2048, 8192, 24, 32, 32), 1.3e5)
