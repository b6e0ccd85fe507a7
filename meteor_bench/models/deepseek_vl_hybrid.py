"""DeepSeek-VL 7B (arXiv 2403.05525) as transformers has it: SigLIP at 384 px and SAM-B at 1024 px, one Llama.

Both encoders end on a grid of 24 x 24, are joined along channels (SAM's first) and projected together. SigLIP is cut
into blocks. SAM is run whole: its map goes through 3 x 3 convolutions and is added to what the same convolutions make
of an earlier layer, so that no cell can be left out before its output.

The library derives SigLIP's pixels from SAM's on 8-bit values. Both travel in one tensor [F, 3, 1024 + 384, 1024]: the
large image, below it the small one at the left, zeros beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from meteor_bench.core import flops
from meteor_bench.core.model import VLM, Fusion
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.decoders import CausalLM, LlamaDecoder
from meteor_bench.models.fusions import linear_flops
from meteor_bench.models.hub_family import Encoders, HubAdapter, HubFamily, Media
from meteor_bench.models.hub_processor import HubProcessor, Library
from meteor_bench.models.llava import apart
from meteor_bench.models.sam import whole_layer
from meteor_bench.models.towers import VitTower, WholeTower

__all__ = [
    "DEEPSEEK_VL",
    "DEEPSEEK_VL_7B",
    "AlignerFusion",
    "HighResTower",
    "HybridAdapter",
    "HybridProcessor",
    "card_for",
]

MEANS = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}  # of SigLIP

DEEPSEEK_VL_7B_CONFIG: Mapping[str, Any] = {
    "model_type": "deepseek_vl_hybrid",
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 30,
        "num_attention_heads": 32,
        "max_position_embeddings": 16384,
        "vocab_size": 102400,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 16,
        "hidden_act": "gelu",
        "vision_use_head": False,
    },
    "high_res_vision_config": {
        "model_type": "sam_vision_model",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 1024,
        "patch_size": 16,
    },
}


class HighResTower(WholeTower):
    """SAM with its necks and strided convolutions, run whole.

    Args:
        body: the library's model, which owns the parts.
        small: side of the other encoder's image, below this one's in the pixels.
    """

    def __init__(self, name: str, body: Any, small: int) -> None:
        super().__init__()
        self.name, self.small = name, small
        self.encoder, self.neck = body.high_res_vision_model.vision_encoder, body.high_res_vision_neck
        self.proj, self.alpha = body.high_res_vision_proj, body.high_res_vision_alpha
        self.early = body.global_attn_index
        self.config = body.config.high_res_vision_config
        self.side = body.output_size
        self.dim = 4 * self.config.output_channels

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, self.side, self.side)

    def embed(self, pixels: Tensor) -> Tokens:
        x = self.encoder.patch_embed(pixels[..., : -self.small, :]) + self.encoder.pos_embed  # [R, h, w, D]
        early = x
        for index, layer in enumerate(self.encoder.layers):
            x = whole_layer(layer, x)
            early = x if index == self.early else early
        features = self.proj(self.encoder.neck(x)) + self.proj(self.neck(early)) * self.alpha  # [R, D', h', w']
        return Tokens.dense(features.flatten(2).transpose(1, 2), self.grid(*pixels.shape[-2:]))

    def flops_embed(self, height: int, width: int) -> int:
        config, out = self.config, self.side
        dim, inner, channels = config.hidden_size, config.mlp_dim, config.output_channels
        side = config.image_size // config.patch_size
        total = flops.conv2d(side, side, config.num_channels, dim, config.patch_size)
        for layer in range(config.num_hidden_layers):
            window = side if layer in config.global_attn_indexes else config.window_size
            windows = (-(-side // window)) ** 2
            total += windows * self._attention(window) + 2 * flops.linear(side**2, dim, inner)
        neck = flops.conv2d(side, side, dim, channels, 1) + flops.conv2d(side, side, channels, channels, 3)
        down = flops.conv2d(2 * out, 2 * out, channels, 2 * channels, 3)
        down += flops.conv2d(out, out, 2 * channels, 4 * channels, 3)
        return total + 2 * (neck + down)  # the output and the first global layer

    def _attention(self, side: int) -> int:
        """One window, relative positions along rows and columns included."""
        n, dim = side**2, self.config.hidden_size
        return 4 * flops.linear(n, dim, dim) + flops.attention(n, n, dim) + 2 * flops.linear(n, dim, side)


class AlignerFusion(Fusion):
    """The library's aligner: a linear layer per encoder, joined along channels, GELU, one linear layer.

    As GELU works on each channel alone, the last layer's output is the sum of what each encoder contributes; those
    are the partial projections.
    """

    kind = "shared"

    def __init__(self, aligner: Any, low: str, high: str) -> None:
        super().__init__()
        self.aligner, self.low, self.high = aligner, low, high

    def common(self, grids: Mapping[str, Grid]) -> Grid:
        return grids[self.low]

    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        return torch.cat([towers[self.high], towers[self.low]], -1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """High, low."""
        width = self.aligner.high_res_vision_proj.in_features
        return x[..., :width], x[..., width:]

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        high, low = self._split(tokens.x)
        return tokens.with_x(self.aligner(low, high))

    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        high, low = self._split(aligned)
        aligner = self.aligner
        parts = {self.high: aligner.high_res_vision_proj(high), self.low: aligner.vision_proj(low)}
        weight = dict(zip(parts, aligner.proj.weight.chunk(2, dim=1), strict=True))
        return {name: aligner.act(x) @ weight[name].T for name, x in parts.items()}

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(linear_flops(self.aligner, n) for n in counts.values())


class HybridProcessor(HubProcessor):
    """The library's image processor; both sizes of each image in one row."""

    def pixels(self, media: Sequence[Any]) -> Tensor:
        made = self.images(images=list(media), return_tensors="pt")
        small, large = made["pixel_values"], made["high_res_pixel_values"]
        beside = nn.functional.pad(small, (0, large.shape[-1] - small.shape[-1]))
        return torch.cat([large, beside], 2)


class HybridAdapter(HubAdapter):
    """Two encoders on one grid, joined along channels."""

    template = "User: {images}{question}\n\nAssistant:"
    fusion = "shared"

    def describe(self, config: Mapping[str, Any]) -> Encoders:
        low, high = config.get("vision_config", {}), config.get("high_res_vision_config", {})
        side = low.get("image_size", 384) // low.get("patch_size", 16)
        towers = {
            "siglip": f"SigLIP ViT, {low.get('image_size', 384)} px, {side}x{side} tokens",
            "sam": f"SAM ViT, {high.get('image_size', 1024)} px, convolved to {side}x{side} tokens",
        }
        return Encoders(towers, side**2)

    def media(self, config: Any) -> Media:
        from transformers import DeepseekVLHybridImageProcessor

        small = dict.fromkeys(("height", "width"), config.vision_config.image_size)
        large = dict.fromkeys(small, config.high_res_vision_config.image_size)
        return Media(DeepseekVLHybridImageProcessor(size=small, high_res_size=large, **MEANS))

    def processor(self, config: Any, library: Library) -> HubProcessor:
        return HybridProcessor(library)

    def assemble(self, name: str, model: Any, config: Any, processor: HubProcessor) -> VLM:
        body, small = model.model, config.vision_config.image_size
        large = config.high_res_vision_config.image_size
        decoder = LlamaDecoder(CausalLM(body.language_model, model.lm_head))
        low = VitTower(
            "siglip",
            body.vision_model,
            has_cls=False,
            post_norm=True,
            prepare=lambda pixels: pixels[..., -small:, :small],
        )
        return VLM(
            name=name,
            towers={"siglip": low, "sam": HighResTower("sam", body, small)},
            fusion=AlignerFusion(body.aligner, "siglip", "sam"),
            decoder=decoder,
            processor=processor,
            reference=lambda grid: grid.n,
            native=(large + small, large),
            resizable=False,
            block=apart(decoder, processor),
        )


DEEPSEEK_VL = HubFamily(
    "DeepseekVLHybridConfig",
    "DeepseekVLHybridForConditionalGeneration",
    "DeepseekVLHybridProcessor",
    HybridAdapter(),
)
card_for = DEEPSEEK_VL.card

DEEPSEEK_VL_7B = card_for(
    DEEPSEEK_VL_7B_CONFIG,
    "deepseek-vl-hybrid-7b",
    licence="DeepSeek License",
    weights="deepseek-community/deepseek-vl-7b-chat",
)
