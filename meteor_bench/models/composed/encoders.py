"""The vision encoders that a composition may name; defaults are the published sizes.

Names of sizes are those of the library that has the module: transformers for most, timm for ConvNeXt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Annotated, ClassVar

from meteor_bench.core.settings import Range
from meteor_bench.models.composed.parts import Depth, Heads, Inner, Normal, Side, Tower, Width, Wrong, wrong_heads

__all__ = ["TOWERS", "Clip", "ConvNext", "Dinov2", "Dinov3", "Eva02", "Pix2Struct", "Sam", "Siglip", "Siglip2"]


@dataclass(frozen=True, kw_only=True)
class _Cut(Tower):
    """An encoder that cuts a square into square patches."""

    image_size: Side = 224
    patch_size: Annotated[int, Range(least=1, most=256)] = 16
    hidden_size: Width = 1024

    @property
    def pixels_side(self) -> int:
        return self.image_size

    @property
    def side(self) -> int:
        return self.image_size // self.patch_size

    @property
    def width(self) -> int:
        return self.hidden_size

    def wrong(self) -> Iterator[Wrong]:
        if self.patch_size > self.image_size:
            yield Wrong("patch_size", f"expected at most image_size ({self.image_size}), found {self.patch_size}")


@dataclass(frozen=True, kw_only=True)
class _Patches(_Cut):
    """One of the library's vision transformers.

    Attributes:
        rotated: whether a head is turned along two axes.
    """

    num_attention_heads: Heads = 16
    rotated: ClassVar[bool] = False

    def wrong(self) -> Iterator[Wrong]:
        yield from super().wrong()
        yield from wrong_heads(self.hidden_size, self.num_attention_heads, 4 if self.rotated else 1)


@dataclass(frozen=True, kw_only=True)
class Clip(_Patches):
    """transformers' `CLIPVisionModel`; by default OpenAI's ViT-L/14 at 336 pixels, features of the last layer but one.

    Attributes:
        class_token: whether its class token runs along; without, it is dropped before the first norm as EAGLE does.
        layer: whose output is used, 1 to num_hidden_layers, or counted from the end: -1 is the last.
    """

    about: ClassVar[str] = "CLIP ViT"
    image_size: Side = 336
    patch_size: Annotated[int, Range(least=1, most=256)] = 14
    intermediate_size: Inner = 4096
    num_hidden_layers: Depth = 24
    class_token: bool = True
    layer: int = -2

    @property
    def depth(self) -> int:
        """Blocks that run."""
        return self.layer if self.layer > 0 else self.num_hidden_layers + 1 + self.layer

    def wrong(self) -> Iterator[Wrong]:
        yield from super().wrong()
        if not 1 <= self.depth <= self.num_hidden_layers:
            most = self.num_hidden_layers
            yield Wrong("layer", f"expected 1 to {most} or -{most} to -1, found {self.layer}")
        if not self.class_token and self.depth != self.num_hidden_layers:
            yield Wrong("layer", "expected -1 with class_token: false, which is EAGLE's use of it: all blocks run")


@dataclass(frozen=True, kw_only=True)
class Siglip(_Patches):
    """transformers' `SiglipVisionModel` (SigLIP, and SigLIP 2 of a fixed size); by default SO400M/14 at 384 pixels."""

    about: ClassVar[str] = "SigLIP ViT"
    pixels: Normal = "siglip"
    image_size: Side = 384
    patch_size: Annotated[int, Range(least=1, most=256)] = 14
    hidden_size: Width = 1152
    intermediate_size: Inner = 4304
    num_hidden_layers: Depth = 27


@dataclass(frozen=True, kw_only=True)
class Siglip2(_Patches):
    """transformers' `Siglip2VisionModel` (NaFlex); by default SO400M/16 at 384 pixels.

    Attributes:
        num_patches: of its table of positions, a square number; the table is resized to the grid.
    """

    about: ClassVar[str] = "SigLIP 2 NaFlex ViT"
    pixels: Normal = "siglip"
    image_size: Side = 384
    hidden_size: Width = 1152
    intermediate_size: Inner = 4304
    num_hidden_layers: Depth = 27
    num_patches: Annotated[int, Range(least=1, most=1 << 16)] = 256

    def wrong(self) -> Iterator[Wrong]:
        yield from super().wrong()
        if isqrt(self.num_patches) ** 2 != self.num_patches:
            yield Wrong("num_patches", f"expected a square number, found {self.num_patches}")


@dataclass(frozen=True, kw_only=True)
class Dinov2(_Patches):
    """transformers' `Dinov2Model`, with register tokens `Dinov2WithRegistersModel`; by default ViT-L/14 at 518 pixels.

    Attributes:
        use_swiglu_ffn: gated MLPs, as in ViT-g.
    """

    about: ClassVar[str] = "DINOv2 ViT"
    pixels: Normal = "imagenet"
    image_size: Side = 518
    patch_size: Annotated[int, Range(least=1, most=256)] = 14
    num_hidden_layers: Depth = 24
    mlp_ratio: Annotated[int, Range(least=1, most=64)] = 4
    use_swiglu_ffn: bool = False
    num_register_tokens: Annotated[int, Range(least=0, most=64)] = 0


@dataclass(frozen=True, kw_only=True)
class Dinov3(_Patches):
    """transformers' `DINOv3ViTModel`; by default ViT-L/16 at 512 pixels, with four register tokens."""

    about: ClassVar[str] = "DINOv3 ViT"
    pixels: Normal = "imagenet"
    rotated: ClassVar[bool] = True
    image_size: Side = 512
    intermediate_size: Inner = 4096
    num_hidden_layers: Depth = 24
    use_gated_mlp: bool = False
    num_register_tokens: Annotated[int, Range(least=0, most=64)] = 4


@dataclass(frozen=True, kw_only=True)
class ConvNext(Tower):
    """timm's `ConvNeXt`, run whole, the last stage's map; by default OpenCLIP's XXL at 1024 pixels."""

    about: ClassVar[str] = "ConvNeXt"
    image_size: Side = 1024
    depths: Annotated[tuple[Depth, ...], Range(least=1, most=8)] = (3, 4, 30, 3)
    dims: Annotated[tuple[Width, ...], Range(least=1, most=8)] = (384, 768, 1536, 3072)

    @property
    def pixels_side(self) -> int:
        return self.image_size

    @property
    def side(self) -> int:
        return self.image_size // (4 << (len(self.dims) - 1))

    @property
    def width(self) -> int:
        return self.dims[-1]

    def wrong(self) -> Iterator[Wrong]:
        if len(self.depths) != 4 or len(self.dims) != 4:
            yield Wrong("depths" if len(self.depths) != 4 else "dims", "expected four numbers, one a stage")
        elif self.side < 1:
            yield Wrong("image_size", f"expected at least 32, found {self.image_size}")


@dataclass(frozen=True, kw_only=True)
class Sam(_Patches):
    """transformers' `SamVisionEncoder` to its neck's first norm, as in EAGLE; by default ViT-L at 1024 pixels.

    Attributes:
        global_attn_indexes: blocks without windows.
    """

    about: ClassVar[str] = "SAM ViT"
    pixels: Normal = "imagenet"
    image_size: Side = 1024
    mlp_dim: Inner = 4096
    num_hidden_layers: Depth = 24
    window_size: Side = 14
    global_attn_indexes: tuple[Annotated[int, Range(least=0, most=511)], ...] = (5, 11, 17, 23)
    output_channels: Width = 256

    @property
    def width(self) -> int:
        return self.output_channels

    def wrong(self) -> Iterator[Wrong]:
        yield from super().wrong()
        yield from _blocks("global_attn_indexes", self.global_attn_indexes, self.num_hidden_layers)


def _blocks(key: str, named: tuple[int, ...], depth: int) -> Iterator[Wrong]:
    if any(block >= depth for block in named):
        yield Wrong(key, f"expected blocks from 0 to {depth - 1}, found {max(named)}")


@dataclass(frozen=True, kw_only=True)
class Eva02(_Cut):
    """EVA-02 of a detector over timm's blocks, windows in most of them; by default L/16 at 1024 pixels.

    Attributes:
        pretrain_grid: side of its table of positions, which is resized.
        rotary_grid: side of the grid that its rotations were trained on.
        global_blocks: blocks without windows.
    """

    about: ClassVar[str] = "EVA-02 ViT of a detector"
    image_size: Side = 1024
    depth: Depth = 24
    num_heads: Heads = 16
    window_size: Side = 16
    global_blocks: tuple[Annotated[int, Range(least=0, most=511)], ...] = tuple(range(2, 24, 3))
    pretrain_grid: Side = 14
    rotary_grid: Side = 16

    def wrong(self) -> Iterator[Wrong]:
        yield from super().wrong()
        yield from wrong_heads(self.hidden_size, self.num_heads, 4, "num_heads")
        yield from _blocks("global_blocks", self.global_blocks, self.depth)


@dataclass(frozen=True, kw_only=True)
class Pix2Struct(Tower):
    """transformers' `Pix2StructVisionModel` on the largest square of whole patches; by default Pix2Struct-large.

    Attributes:
        max_patches: at most that many patches.
    """

    about: ClassVar[str] = "Pix2Struct ViT"
    hidden_size: Width = 1536
    d_ff: Inner = 3968
    d_kv: Width = 64
    num_hidden_layers: Depth = 18
    num_attention_heads: Heads = 24
    max_patches: Annotated[int, Range(least=1, most=4096)] = 2048

    @property
    def pixels_side(self) -> None:
        return None

    @property
    def side(self) -> int:
        return isqrt(self.max_patches)

    @property
    def width(self) -> int:
        return self.hidden_size

    def wrong(self) -> Iterator[Wrong]:
        if self.pixels != "clip":
            yield Wrong("pixels", "expected nothing or clip: it standardises every picture by itself")


TOWERS: Mapping[str, type[Tower]] = {
    "clip": Clip,
    "siglip": Siglip,
    "siglip2": Siglip2,
    "dinov2": Dinov2,
    "dinov3": Dinov3,
    "convnext": ConvNext,
    "sam": Sam,
    "eva02": Eva02,
    "pix2struct": Pix2Struct,
}
