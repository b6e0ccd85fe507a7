"""Vision towers over the libraries' own modules: the CLIP/SigLIP family of ViTs and ConvNeXt.

The library's layers are called from the engine's one loop; nothing is copied or patched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe, probing
from meteor_bench.core.model import VisionTower
from meteor_bench.core.pick import pick
from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["ConvNextTower", "ConvShape", "Prepare", "VitTower", "WholeTower", "as_they_are"]

Prepare = Callable[[Tensor], Tensor]


def as_they_are(pixels: Tensor) -> Tensor:
    """For an encoder that sees the pixels of the processor."""
    return pixels


class VitTower(VisionTower):
    """A pre-norm ViT of transformers (`CLIPVisionModel`, `SiglipVisionModel`).

    Args:
        name: key of the tower in its model.
        model: the library's module.
        has_cls: whether the embedding puts a class token first.
        post_norm: whether the library's forward ends with `post_layernorm` (SigLIP does, CLIP does not).
        prepare: resizes the shared pixels [R, 3, H, W] to what this encoder sees.
        depth: blocks to run, where the model uses the features of a layer before the last.
    """

    halves = True
    opens = True

    def __init__(
        self, name: str, model: Any, *, has_cls: bool, post_norm: bool, prepare: Prepare, depth: int | None = None
    ) -> None:
        super().__init__()
        self.name, self.model, self.has_cls, self.post_norm = name, model, has_cls, post_norm
        self.prepare = prepare
        self.config = model.config
        self.dim = model.config.hidden_size
        self.depth = model.config.num_hidden_layers if depth is None else depth

    def grid(self, height: int, width: int) -> Grid:
        import torch

        seen = self.prepare(torch.empty(1, 3, height, width, device="meta"))
        return Grid(1, seen.shape[-2] // self.config.patch_size, seen.shape[-1] // self.config.patch_size)

    def embed(self, pixels: Tensor) -> Tokens:
        pixels = self.prepare(pixels)
        height, width = pixels.shape[-2:]
        native = height == width == self.config.image_size
        x = self.model.embeddings(pixels, interpolate_pos_encoding=not native)
        norm = getattr(self.model, "pre_layrnorm", None)
        x = x if norm is None else norm(x)
        grid = Grid(1, height // self.config.patch_size, width // self.config.patch_size)
        return Tokens.dense(x, grid, specials=int(self.has_cls))

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        layer = self.model.encoder.layers[block]
        with probing(probe):
            out, _ = layer.self_attn(layer.layer_norm1(x), attention_mask=mask)
        mixed: Tensor = x + out
        return mixed

    def feed(self, block: int, x: Tensor) -> Tensor:
        layer = self.model.encoder.layers[block]
        out: Tensor = x + layer.mlp(layer.layer_norm2(x))
        return out

    def finish(self, tokens: Tokens) -> Tokens:
        if self.post_norm:
            tokens = tokens.with_x(self.model.post_layernorm(tokens.x))
        return pick(tokens, tokens.visual) if self.has_cls else tokens

    def flops_embed(self, height: int, width: int) -> int:
        grid, patch = self.grid(height, width), self.config.patch_size
        return flops.conv2d(grid.h, grid.w, self.config.num_channels, self.dim, patch)

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        return (
            4 * flops.linear(attention, self.dim, self.dim)
            + flops.attention(attention, attention, self.dim)
            + 2 * flops.linear(mlp, self.dim, self.config.intermediate_size)
        )


class WholeTower(VisionTower):
    """An encoder that is run whole by `embed`: it has no blocks to prune between."""

    depth = 0
    has_cls = False
    halves = False

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        raise IndexError(f"tower '{self.name}' has no blocks")

    def feed(self, block: int, x: Tensor) -> Tensor:
        raise IndexError(f"tower '{self.name}' has no blocks")

    def finish(self, tokens: Tokens) -> Tokens:
        return tokens

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        return 0


class ConvShape(NamedTuple):
    """What a ConvNeXt is made of: a patch stem, then stages of blocks, each but the first halving the grid."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    patch: int = 4
    inputs: int = 3


class ConvNextTower(WholeTower):
    """A ConvNeXt, run whole: a convolution has no tokens to drop before its output.

    Args:
        name: key of the tower in its model.
        model: the library's module.
        shape: of ``model``.
        prepare: makes of the shared pixels [R, 3, H, W] what this encoder sees.
        features: ``model`` and its pixels -> [R, D, h, w].
        size: side in pixels of what ``prepare`` makes of any picture; None: it leaves height and width alone.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        shape: ConvShape,
        *,
        prepare: Prepare,
        features: Callable[[Any, Tensor], Tensor],
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.name, self.model, self.shape, self.prepare, self.features = name, model, shape, prepare, features
        self.dim = shape.channels[-1]
        self.stride = shape.patch * 2 ** (len(shape.channels) - 1)

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, (self.size or height) // self.stride, (self.size or width) // self.stride)

    def embed(self, pixels: Tensor) -> Tokens:
        features = self.features(self.model, self.prepare(pixels))
        grid = Grid(1, features.shape[-2], features.shape[-1])
        return Tokens.dense(features.flatten(2).transpose(1, 2), grid)

    def flops_embed(self, height: int, width: int) -> int:
        shape = self.shape
        height, width = self.size or height, self.size or width
        return flops.convnext(height, width, shape.inputs, shape.patch, shape.channels, shape.depths)
