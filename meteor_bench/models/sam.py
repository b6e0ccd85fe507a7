"""SAM ViT as a tower, over transformers' modules: windows in most blocks, decomposed relative positions in all.

With nothing pruned its layers run as the library runs them. Pruned, the same weights work on the tokens that are left
(`models.windows`); their relative positions follow their origins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder, SamVisionSdpaAttention

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.tokens import Grid, Later, Tokens
from meteor_bench.models.relative import Relative, apart, relative
from meteor_bench.models.towers import Prepare, as_they_are
from meteor_bench.models.windows import WindowedTower, Windows, read_beside

__all__ = ["SamTower", "sam", "whole_layer"]


class _Neck(nn.Module):
    """The first half of the library's neck; the released models were trained without the second."""

    def __init__(self, neck: Any) -> None:
        super().__init__()
        self.conv1, self.layer_norm1 = neck.conv1, neck.layer_norm1

    def forward(self, x: Tensor) -> Tensor:
        """[R, N, D] -> [R, N, channels]: both work on every token alone."""
        out: Tensor = self.layer_norm1(self.conv1(x.transpose(1, 2)[..., None]))
        return out[..., 0].transpose(1, 2)


def sam(sizes: dict[str, Any]) -> SamVisionEncoder:
    """SAM ViT-L with a neck of one convolution and one norm, or of other ``sizes``."""
    large = {
        "hidden_size": 1024,
        "mlp_dim": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
        "window_size": 14,
        "image_size": 1024,
        "output_channels": 256,
    }
    model = SamVisionEncoder(SamVisionConfig(**{**large, **sizes}))
    model.neck = _Neck(model.neck)
    return model


@dataclass(frozen=True)
class _Where(Windows):
    """Windows, and the relative positions in them and on the grid, for whoever asks."""

    inside: Later[Relative]
    over_all: Later[Relative]


class SamTower(WindowedTower):
    """transformers' `SamVisionEncoder` up to its neck's first norm."""

    def __init__(self, name: str, model: SamVisionEncoder, prepare: Prepare = as_they_are) -> None:
        super().__init__()
        self.prepare, config = prepare, model.config
        self.name, self.model = name, model
        self.width, self.dim, self.depth = config.hidden_size, config.output_channels, config.num_hidden_layers
        self.inner = config.mlp_dim
        self.side, self.open = config.window_size, frozenset(config.global_attn_indexes)
        self.patch, self.cells = config.patch_size, config.image_size // config.patch_size

    def embed(self, pixels: Tensor) -> Tokens:
        x = self.model.patch_embed(self.prepare(pixels)) + self.model.pos_embed  # [R, h, w, D]
        return Tokens.dense(x.flatten(1, 2), Grid(1, *x.shape[1:3]))

    def where(self, tokens: Tokens) -> _Where:
        found = super().where(tokens)
        inside, everywhere = (partial(Relative.of, side=side) for side in (self.side, self.cells))
        cells = Later(lambda: inside(found.cell.flatten(0, 1))), Later(lambda: everywhere(found.origin.clamp(min=0)))
        return _Where(**vars(found), inside=cells[0], over_all=cells[1])

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        layer = self.model.layers[block]
        h = layer.layer_norm1(x)
        inside = block not in self.open
        if where.whole and probe is None:
            return x + self._as_library(layer, h, inside)
        attn, positions = layer.attn, (where.inside if inside else where.over_all).get()
        seen = mask
        if inside:
            h, seen = where.gather(h), where.seen(mask, x.dtype)
        qkv = attn.qkv(h).reshape(*h.shape[:2], 3, attn.num_attention_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # [B, H, S, d]
        bias = _relative(attn, query, positions)
        if seen is not None:
            bias = bias.masked_fill_(~seen, -torch.inf) if seen.dtype == torch.bool else bias + seen
        if probe is not None:
            if inside:
                where.read(probe, query, key, bias)
            else:
                read_beside(probe, query, key, bias)
        out = scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        out = attn.proj(out)
        mixed: Tensor = x + (where.scatter(out) if inside else out)
        return mixed

    def _as_library(self, layer: Any, h: Tensor, inside: bool) -> Tensor:
        """[R, N, D] normed -> what the attention adds, with every cell in its place."""
        h = h.reshape(len(h), self.cells, self.cells, -1)
        return _within(layer, h, self.side if inside else 0).flatten(1, 2)

    def feed(self, block: int, x: Tensor) -> Tensor:
        layer = self.model.layers[block]
        out: Tensor = x + layer.mlp(layer.layer_norm2(x))
        return out

    def finish(self, tokens: Tokens) -> Tokens:
        return tokens.with_x(self.model.neck(tokens.x))

    def flops_embed(self, height: int, width: int) -> int:
        return flops.conv2d(self.cells, self.cells, 3, self.width, self.patch)

    def flops_attention(self, length: int, count: int, side: int) -> int:
        relative = 2 * flops.linear(count * length, self.width, side)  # rows and columns
        return super().flops_attention(length, count, side) + relative

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        assert pairs is not None
        return pairs + flops.mlp(mlp, (self.width, self.inner, self.width))

    def flops_finish(self, tokens: int) -> int:
        return flops.linear(tokens, self.width, self.dim)


def whole_layer(layer: Any, x: Tensor) -> Tensor:
    """What the library's `SamVisionLayer` makes of [B, h, w, D]: its operations, in its order.

    The forward of its attention makes indices on the CPU in every block, which a GPU's host waits for.
    """
    x = x + _within(layer, layer.layer_norm1(x), layer.window_size)
    out: Tensor = x + layer.mlp(layer.layer_norm2(x))
    return out


def _within(layer: Any, h: Tensor, side: int) -> Tensor:
    """[B, h, w, D] normed -> what the attention adds, within windows of ``side`` cells; 0: of all."""
    if side == 0:
        return _attended(layer.attn, h)
    parts, padded = layer.window_partition(h, side)
    out: Tensor = layer.window_unpartition(_attended(layer.attn, parts), side, padded, h.shape[1:3])
    return out


def _attended(attn: Any, h: Tensor) -> Tensor:
    """What the library's attention makes of [B, side, side, D], with its fast kernel where it would take that."""
    b, side, _, _ = h.shape
    cells, heads = side**2, attn.num_attention_heads
    qkv = attn.qkv(h).reshape(b, cells, 3, heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv.reshape(3, b * heads, cells, -1).unbind(0)
    square = query.reshape(b * heads, side, side, -1)
    down = torch.einsum("bhwc,hkc->bhwk", square, _table(attn.rel_pos_h, side)[apart(side, h.device)])
    across = torch.einsum("bhwc,wkc->bhwk", square, _table(attn.rel_pos_w, side)[apart(side, h.device)])
    bias = (down[..., None] + across[..., None, :]).reshape(b * heads, cells, cells)
    if isinstance(attn, SamVisionSdpaAttention):
        query, key, value, bias = (part.view(b, heads, cells, -1) for part in (query, key, value, bias))
        out = scaled_dot_product_attention(query, key, value, attn_mask=bias)
    else:
        weights = (query * attn.scale) @ key.transpose(-2, -1) + bias
        out = torch.nn.functional.softmax(weights, dtype=torch.float32, dim=-1).to(query.dtype) @ value
    out = out.reshape(b, heads, side, side, -1).permute(0, 2, 3, 1, 4).reshape(b, side, side, -1)
    projected: Tensor = attn.proj(out)
    return projected


def _table(table: Tensor, side: int) -> Tensor:
    """[2·side - 1, d] a row for each distance, of such a table or of one to be resized."""
    if len(table) == 2 * side - 1:
        return table
    return interpolate(table.T[None], size=2 * side - 1, mode="linear")[0].T


def _relative(attn: Any, query: Tensor, positions: Relative) -> Tensor:
    """[B, H, S, S] decomposed relative positions of the unscaled queries [B, H, S, d]."""
    tables = attn.rel_pos_h, attn.rel_pos_w
    down, across = (
        torch.einsum("bhsd,bskd->bhsk", query, _table(table, positions.side)[apart])  # [B, S, side, d] rows of a table
        for table, apart in zip(tables, (positions.down, positions.across), strict=True)
    )
    return relative(down, across, positions.row, positions.column)
