"""EAGLE's encoders without windows: CLIP, ConvNeXt-XXL and Pix2Struct, over transformers' and timm's own modules.

All see the same pixels (1024 x 1024, CLIP's mean and standard deviation) and make of them what their library's own
preprocessing would have made of the image. The released code is the reference: NVlabs/EAGLE, arXiv 2408.15998.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import CLIPVisionConfig, CLIPVisionModel, Pix2StructVisionConfig, Pix2StructVisionModel

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe, probing, register
from meteor_bench.core.host import upload
from meteor_bench.core.model import VisionTower
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.timm_modules import ConvNeXt
from meteor_bench.models.towers import ConvNextTower, ConvShape, Prepare, VitTower, as_they_are

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "ClipTower",
    "Pix2StructTower",
    "aligned",
    "clip",
    "convnext",
    "convnext_tower",
    "pix2struct",
]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip(sizes: dict[str, Any]) -> CLIPVisionModel:
    """CLIP ViT-L/14 at 336 pixels, or of other ``sizes``; EAGLE's name for it, clip-448, promises 448."""
    large = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
    }
    model = CLIPVisionModel(CLIPVisionConfig(**{**large, **sizes}))
    model.set_attn_implementation(register())
    return model


def convnext(sizes: dict[str, Any]) -> ConvNeXt:
    """OpenCLIP's ConvNeXt-XXL without its head, or of other ``sizes``."""
    xxl = {"depths": (3, 4, 30, 3), "dims": (384, 768, 1536, 3072), "norm_eps": 1e-5}
    model = ConvNeXt(num_classes=0, **{**xxl, **sizes})
    model.head = nn.Identity()
    return model


def pix2struct(sizes: dict[str, Any]) -> Pix2StructVisionModel:
    """The encoder of Pix2Struct-large, or of other ``sizes``."""
    large = {
        "hidden_size": 1536,
        "d_ff": 3968,
        "d_kv": 64,
        "num_hidden_layers": 18,
        "num_attention_heads": 24,
        "max_patches": 2048,
    }
    model = Pix2StructVisionModel(Pix2StructVisionConfig(**{**large, **sizes}))
    model.set_attn_implementation(register())
    return model


class ClipTower(VitTower):
    """CLIP whose class token is dropped before the first norm: no token of it stands for the whole image.

    The pixels are resized to the model's own size (bilinear, corners aligned, no antialias); all blocks run and there
    is no norm behind them.
    """

    def __init__(self, name: str, model: CLIPVisionModel) -> None:
        size = model.config.image_size
        super().__init__(name, model, has_cls=False, post_norm=False, prepare=partial(aligned, size=size))

    def embed(self, pixels: Tensor) -> Tokens:
        x = self.model.embeddings(self.prepare(pixels))[:, 1:]  # positions are added with the class token present
        side = self.config.image_size // self.config.patch_size
        return Tokens.dense(self.model.pre_layrnorm(x), Grid(1, side, side))


def aligned(pixels: Tensor, size: int) -> Tensor:
    """[R, 3, H, W] -> [R, 3, size, size], bilinear, corners aligned, no antialias."""
    if tuple(pixels.shape[-2:]) == (size, size):
        return pixels
    resized = interpolate(pixels.float(), size=(size, size), mode="bilinear", align_corners=True)
    return resized.to(pixels.dtype)


def convnext_tower(
    name: str, model: ConvNeXt, prepare: Prepare = as_they_are, size: int | None = None
) -> ConvNextTower:
    """The last stage's map, without the head's norm; arguments as for `ConvNextTower`."""
    channels = tuple(stage.blocks[-1].conv_dw.out_channels for stage in model.stages)
    shape = ConvShape(channels, tuple(len(stage.blocks) for stage in model.stages), model.stem[0].kernel_size[0])
    return ConvNextTower(
        name, model, shape, prepare=prepare, features=lambda m, pixels: m.stages(m.stem(pixels)), size=size
    )


class Pix2StructTower(VisionTower):
    """transformers' `Pix2StructVisionModel` on the pixels brought back to 0..255.

    The image is standardised by the mean and standard deviation of all its values and resized to the largest square
    of whole patches that the published preprocessing allows (its `max_patches`). The released code pads the sequence
    with zero rows up to that number and masks them; they change nothing and are left out (2025 of 2048 rows remain).
    """

    has_cls = False
    halves = True
    opens = True

    def __init__(self, name: str, model: Pix2StructVisionModel) -> None:
        super().__init__()
        self.name, self.model, self.config = name, model, model.config
        self.dim, self.depth = model.config.hidden_size, model.config.num_hidden_layers
        self.side = int(model.config.max_patches**0.5)
        self.patch = int((model.config.patch_embed_hidden_size // 3) ** 0.5)

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, self.side, self.side)

    def embed(self, pixels: Tensor) -> Tokens:
        x = self.model.embeddings(self.patches(pixels).to(pixels.dtype))
        return Tokens.dense(x, Grid(1, self.side, self.side))

    def patches(self, pixels: Tensor) -> Tensor:
        """[R, 3, H, W] with CLIP's mean and deviation -> [R, side², 2 + patch²·3] float32.

        Row and column (from 1), then the patch's pixels by row, column, channel.
        """
        mean, std = (upload(part, pixels.device, torch.float32)[:, None, None] for part in (CLIP_MEAN, CLIP_STD))
        x = (pixels.float() * std + mean) * 255
        count = x[0].numel()
        deviation = x.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp(min=count**-0.5)
        x = (x - x.mean(dim=(1, 2, 3), keepdim=True)) / deviation
        size, p = self.side * self.patch, self.patch
        x = interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
        x = x.reshape(-1, 3, self.side, p, self.side, p)  # rows, columns
        x = x.permute(0, 2, 4, 3, 5, 1).reshape(len(x), self.side**2, -1)
        index = torch.arange(1, self.side + 1, device=x.device, dtype=x.dtype)
        place = torch.stack(torch.meshgrid(index, index, indexing="ij"), -1).flatten(0, 1)  # [side², 2]
        return torch.cat([place.expand(len(x), -1, -1), x], -1)

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        layer = self.model.encoder.layer[block]
        with probing(probe):
            out, _ = layer.attention(layer.pre_attention_layer_norm(x), attention_mask=mask)
        mixed: Tensor = out + x
        return mixed

    def feed(self, block: int, x: Tensor) -> Tensor:
        layer = self.model.encoder.layer[block]
        out: Tensor = layer.mlp(layer.pre_mlp_layer_norm(x)) + x
        return out

    def finish(self, tokens: Tokens) -> Tokens:
        return tokens.with_x(self.model.layernorm(tokens.x))

    def flops_embed(self, height: int, width: int) -> int:
        return flops.linear(self.side**2, self.config.patch_embed_hidden_size, self.dim)

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        inner = self.config.num_attention_heads * self.config.d_kv
        return (
            4 * flops.linear(attention, self.dim, inner)
            + flops.attention(attention, attention, inner)
            + 3 * flops.linear(mlp, self.dim, self.config.d_ff)
        )
