"""A composition's towers over the libraries' modules.

All see the same square picture with CLIP's mean and deviation. A tower resizes it to its own size (bilinear, corners
aligned, no antialias, as EAGLE does for CLIP) and gives it the mean and deviation that it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe, probing, register
from meteor_bench.core.host import upload
from meteor_bench.core.model import VisionTower
from meteor_bench.core.pick import pick
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.composed import encoders
from meteor_bench.models.composed.parts import Tower
from meteor_bench.models.eagle.eva import EvaTower, eva
from meteor_bench.models.eagle.towers import (
    CLIP_MEAN,
    CLIP_STD,
    ClipTower,
    Pix2StructTower,
    aligned,
    clip,
    convnext,
    convnext_tower,
    pix2struct,
)
from meteor_bench.models.sam import SamTower, sam
from meteor_bench.models.towers import Prepare, VitTower

__all__ = ["DinoTower", "NaflexTower", "module_of", "tower_of"]

_NORMS = {
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def prepared(pixels: Tensor, part: Tower) -> Tensor:
    """[R, 3, S, S] with CLIP's mean and deviation -> [R, 3, s, s] as a tower wants them."""
    if part.pixels != "clip":
        mean, std = _NORMS[part.pixels]
        scale = [a / b for a, b in zip(CLIP_STD, std, strict=True)]
        shift = [(a - b) / c for a, b, c in zip(CLIP_MEAN, mean, std, strict=True)]
        factor, offset = (upload(row, pixels.device, pixels.dtype)[:, None, None] for row in (scale, shift))
        pixels = pixels * factor + offset
    return pixels if part.pixels_side is None else aligned(pixels, part.pixels_side)


class NaflexTower(VitTower):
    """transformers' `Siglip2VisionModel`, which takes patches instead of pixels; a square picture here.

    Args:
        side: of the grid.
    """

    def __init__(self, name: str, model: Siglip2VisionModel, side: int, prepare: Prepare) -> None:
        super().__init__(name, model, has_cls=False, post_norm=True, prepare=prepare)
        self.side = side

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, self.side, self.side)

    def embed(self, pixels: Tensor) -> Tokens:
        side, patch = self.side, self.config.patch_size
        x = self.prepare(pixels)[..., : side * patch, : side * patch]
        x = x.reshape(len(x), -1, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1).reshape(len(x), side**2, -1)
        shapes = torch.full((len(x), 2), side)  # the library asks for numbers: on the CPU no device is waited for
        return Tokens.dense(self.model.embeddings(x, shapes), Grid(1, side, side))


class DinoTower(VisionTower):
    """DINOv2 (with or without register tokens) or DINOv3 of transformers.

    DINOv3's rotations follow the tokens' origins; class and register tokens are not rotated.

    Args:
        side: of the grid.
        rotated: whether it is DINOv3.
    """

    has_cls = True
    halves = True
    opens = True

    def __init__(self, name: str, model: Any, side: int, *, rotated: bool, prepare: Prepare) -> None:
        super().__init__()
        self.name, self.model, self.side, self.rotated, self.prepare = name, model, side, rotated, prepare
        self.config = model.config
        self.dim, self.depth = model.config.hidden_size, model.config.num_hidden_layers
        self.registers = getattr(model.config, "num_register_tokens", 0)

    @property
    def specials(self) -> int:
        return 1 + self.registers

    @property
    def blocks(self) -> Any:
        """The library's layers."""
        return self.model.model.layer if self.rotated else self.model.encoder.layer

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, self.side, self.side)

    def embed(self, pixels: Tensor) -> Tokens:
        return Tokens.dense(self.model.embeddings(self.prepare(pixels)), self.grid(0, 0), specials=self.specials)

    def where(self, tokens: Tokens) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines [R, 1, N - specials, d] of the patch tokens; None for DINOv2, which adds its positions."""
        if not self.rotated:
            return None
        pixels = self.side * self.config.patch_size
        shape = torch.empty(1, 3, pixels, pixels, device=tokens.x.device, dtype=tokens.x.dtype)
        cos, sin = self.model.rope_embeddings(shape)  # of the whole grid, [cells, d]
        if tokens.whole:
            return cos, sin
        at = tokens.origin[:, self.specials :].clamp(min=0)
        return cos[at][:, None], sin[at][:, None]

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        layer = self.blocks[block]
        rotation = {} if where is None else {"position_embeddings": where}
        with probing(probe):
            out, _ = layer.attention(layer.norm1(x), attention_mask=mask, **rotation)
        mixed: Tensor = layer.layer_scale1(out) + x
        return mixed

    def feed(self, block: int, x: Tensor) -> Tensor:
        layer = self.blocks[block]
        out: Tensor = layer.layer_scale2(layer.mlp(layer.norm2(x))) + x
        return out

    def finish(self, tokens: Tokens) -> Tokens:
        norm = self.model.norm if self.rotated else self.model.layernorm
        tokens = tokens.with_x(norm(tokens.x))
        return pick(tokens, tokens.visual)

    def flops_embed(self, height: int, width: int) -> int:
        return flops.conv2d(self.side, self.side, self.config.num_channels, self.dim, self.config.patch_size)

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        layers = [m for m in self.blocks[0].mlp.modules() if isinstance(m, nn.Linear)]
        return (
            4 * flops.linear(attention, self.dim, self.dim)
            + flops.attention(attention, attention, self.dim)
            + sum(flops.linear(mlp, m.in_features, m.out_features) for m in layers)
        )


class _Kind(NamedTuple):
    """How a type of tower is built.

    Attributes:
        module: part -> the library's module, without storage inside `skeleton`.
        tower: (name, part, module, prepare) -> tower.
    """

    module: Callable[[Any], nn.Module]
    tower: Callable[[str, Any, Any, Prepare], VisionTower]


def _sizes(part: Tower, *without: str) -> dict[str, Any]:
    """What a library's configuration takes of a part."""
    left = ("pixels", *without)
    return {key: [*v] if isinstance(v, tuple) else v for key, v in asdict(part).items() if key not in left}


def _attended(model: Any) -> nn.Module:
    model.set_attn_implementation(register())
    return model  # type: ignore[no-any-return]


def _dinov2(part: encoders.Dinov2) -> nn.Module:
    if part.num_register_tokens:
        return _attended(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**_sizes(part))))
    return _attended(Dinov2Model(Dinov2Config(**_sizes(part, "num_register_tokens"))))


def _clip_tower(name: str, part: encoders.Clip, model: Any, prepare: Prepare) -> VisionTower:
    if not part.class_token:
        tower = ClipTower(name, model)
        tower.prepare = prepare
        return tower
    return VitTower(name, model, has_cls=True, post_norm=False, prepare=prepare, depth=part.depth)


def _siglip_tower(name: str, part: Any, model: Any, prepare: Prepare) -> VisionTower:
    return VitTower(name, model, has_cls=False, post_norm=True, prepare=prepare)


def _dino_tower(name: str, part: Any, model: Any, prepare: Prepare) -> VisionTower:
    return DinoTower(name, model, part.side, rotated=isinstance(part, encoders.Dinov3), prepare=prepare)


_KINDS: Mapping[type[Tower], _Kind] = {
    encoders.Clip: _Kind(lambda part: clip(_sizes(part, "class_token", "layer")), _clip_tower),
    encoders.Siglip: _Kind(
        lambda part: _attended(SiglipVisionModel(SiglipVisionConfig(**_sizes(part), vision_use_head=False))),
        _siglip_tower,
    ),
    encoders.Siglip2: _Kind(
        lambda part: _attended(
            Siglip2VisionModel(Siglip2VisionConfig(**_sizes(part, "image_size"), vision_use_head=False))
        ),
        lambda name, part, model, prepare: NaflexTower(name, model, part.side, prepare),
    ),
    encoders.Dinov2: _Kind(_dinov2, _dino_tower),
    encoders.Dinov3: _Kind(lambda part: _attended(DINOv3ViTModel(DINOv3ViTConfig(**_sizes(part)))), _dino_tower),
    encoders.ConvNext: _Kind(
        lambda part: convnext(_sizes(part, "image_size")),
        lambda name, part, model, prepare: convnext_tower(name, model, prepare, part.image_size),
    ),
    encoders.Sam: _Kind(
        lambda part: sam(_sizes(part)), lambda name, part, model, prepare: SamTower(name, model, prepare)
    ),
    encoders.Eva02: _Kind(
        lambda part: eva(_sizes(part)), lambda name, part, model, prepare: EvaTower(name, model, prepare)
    ),
    encoders.Pix2Struct: _Kind(
        lambda part: pix2struct(_sizes(part)), lambda name, part, model, prepare: Pix2StructTower(name, model)
    ),
}


def module_of(part: Tower) -> nn.Module:
    """The library's module of a part."""
    return _KINDS[type(part)].module(part)


def tower_of(name: str, part: Tower, module: nn.Module) -> VisionTower:
    """A part's module as the engine takes it."""
    return _KINDS[type(part)].tower(name, part, module, partial(prepared, part=part))
