"""Encoders and a language model whose blocks differ in width: what they cost is read off each block's own layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from meteor_bench.core import flops
from meteor_bench.core.tokens import Tokens
from meteor_bench.models.decoders import LlamaDecoder
from meteor_bench.models.towers import ConvNextTower, VitTower

__all__ = ["NarrowConvNext", "NarrowLlama", "NarrowVit"]


class NarrowVit(VitTower):
    """`VitTower.pairs` says which block it is, for `flops_block`."""

    def where(self, tokens: Tokens) -> int:
        """How many rows there are."""
        return len(tokens.x)

    def pairs(self, block: int, where: Any) -> Tensor:
        """The block's index, of each row."""
        return torch.full((where,), block)

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        assert pairs is not None, "a narrowed encoder's blocks differ"
        layer = self.model.encoder.layers[pairs]
        width, inner = layer.self_attn.q_proj.out_features, layer.mlp.fc1.out_features
        return (
            4 * flops.linear(attention, self.dim, width)
            + flops.attention(attention, attention, width)
            + 2 * flops.linear(mlp, self.dim, inner)
        )


class NarrowConvNext(ConvNextTower):
    """A ConvNeXt whose blocks' MLPs have widths of their own."""

    def flops_embed(self, height: int, width: int) -> int:
        total = super().flops_embed(height, width)
        h, w = (self.size or height) // self.shape.patch, (self.size or width) // self.shape.patch
        for stage, dim in enumerate(self.shape.channels):
            h, w = (h // 2, w // 2) if stage else (h, w)
            for layer in self.model.encoder.stages[stage].layers:
                total -= flops.mlp(h * w, (dim, 4 * dim - layer.pwconv1.out_features, dim))
        return total


class NarrowLlama(LlamaDecoder):
    """`flops_layer` is of a layer as the configuration says it, unnarrowed; `flops_at` of one that is here."""

    def flops_at(self, index: int, queries: int, keys: int) -> int:
        layer = self.model.model.layers[index]
        width, inner = layer.self_attn.q_proj.out_features, layer.mlp.gate_proj.out_features
        return (
            4 * flops.linear(queries, self.dim, width)
            + flops.attention(queries, keys, width)
            + 3 * flops.linear(queries, self.dim, inner)
        )
