"""InternViT, the encoder of InternVL, layer by layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe, probing
from meteor_bench.core.model import VisionTower
from meteor_bench.core.pick import pick
from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["InternTower"]


class InternTower(VisionTower):
    """transformers' `InternVLVisionModel`: a pre-norm ViT whose halves have a scale of each channel."""

    has_cls = True
    halves = True
    opens = True

    def __init__(self, name: str, model: Any) -> None:
        super().__init__()
        self.name, self.model, self.config = name, model, model.config
        self.dim, self.depth = model.config.hidden_size, model.config.num_hidden_layers
        self.patch = model.config.patch_size[0]

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, height // self.patch, width // self.patch)

    def embed(self, pixels: Tensor) -> Tokens:
        return Tokens.dense(self.model.embeddings(pixels), self.grid(*pixels.shape[-2:]), specials=1)

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        layer = self.model.encoder.layer[block]
        with probing(probe):
            out, _ = layer.attention(layer.layernorm_before(x), attention_mask=mask)
        mixed: Tensor = layer.lambda_1 * out + x
        return mixed

    def feed(self, block: int, x: Tensor) -> Tensor:
        layer = self.model.encoder.layer[block]
        out: Tensor = layer.lambda_2 * layer.mlp(layer.layernorm_after(x)) + x
        return out

    def finish(self, tokens: Tokens) -> Tokens:
        tokens = tokens.with_x(self.model.layernorm(tokens.x))
        return pick(tokens, tokens.visual)

    def flops_embed(self, height: int, width: int) -> int:
        grid = self.grid(height, width)
        return flops.conv2d(grid.h, grid.w, self.config.num_channels, self.dim, self.patch)

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        return (
            4 * flops.linear(attention, self.dim, self.dim)
            + flops.attention(attention, attention, self.dim)
            + 2 * flops.linear(mlp, self.dim, self.config.intermediate_size)
        )
