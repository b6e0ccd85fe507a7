"""EVA-02 as object detectors use it, over timm's modules: windows in most blocks, two-dimensional rotations in all.

Pruned, the same weights work on the tokens that are left (`models.windows`); rotations follow their origins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.models.timm_modules import EvaBlock, PatchEmbed, apply_rot_embed_cat
from meteor_bench.models.towers import Prepare, as_they_are
from meteor_bench.models.windows import WindowedTower, read_beside

__all__ = ["EvaEncoder", "EvaTower", "eva"]


class EvaEncoder(nn.Module):
    """EVA-02 as its detectors use it: patches, positions of a 14 x 14 pre-training grid, blocks; no norm behind.

    Attributes:
        window: side of a window.
        rotary_window, rotary: [cells, 2·d] sine and cosine of each cell of a window and of the grid.
    """

    def __init__(
        self,
        *,
        image_size: int = 1024,
        patch_size: int = 16,
        pretrain_grid: int = 14,
        rotary_grid: int = 16,
        hidden_size: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        window_size: int = 16,
        global_blocks: tuple[int, ...] = tuple(range(2, 24, 3)),
    ) -> None:
        super().__init__()
        self.cells, self.patch, self.pretrain = image_size // patch_size, patch_size, pretrain_grid
        self.window, self.heads, self.global_blocks = window_size, num_heads, tuple(global_blocks)
        self.patch_embed = PatchEmbed(image_size, patch_size, 3, hidden_size)
        self.pos_embed = nn.Parameter(torch.empty(1, pretrain_grid**2 + 1, hidden_size))
        self.blocks = nn.ModuleList(
            EvaBlock(
                hidden_size,
                num_heads,
                qkv_fused=False,
                mlp_ratio=4 * 2 / 3,
                swiglu_mlp=True,
                scale_mlp=True,
                num_prefix_tokens=0,
            )
            for _ in range(depth)
        )
        half = hidden_size // num_heads // 2
        for name, cells in (("rotary_window", window_size), ("rotary", self.cells)):
            self.register_buffer(name, _rotations(half, cells, rotary_grid), persistent=False)

    def positions(self) -> Tensor:
        """[1, cells², D]: the pre-training table without its class token, resized."""
        table = self.pos_embed[:, 1:].reshape(1, self.pretrain, self.pretrain, -1).permute(0, 3, 1, 2)
        if self.pretrain != self.cells:
            size = (self.cells, self.cells)
            table = interpolate(table.float(), size=size, mode="bicubic", align_corners=False).to(self.pos_embed.dtype)
        return table.flatten(2).transpose(1, 2)


def _rotations(half: int, cells: int, trained: int) -> Tensor:
    """[cells², 4·half]: sine, then cosine; of each, ``half`` values for the row and ``half`` for the column.

    Positions run over 0..trained, however many cells there are; neighbouring values share a frequency.
    """
    frequency = 10000.0 ** -(torch.arange(0, half, 2).float() / half)
    angle = (torch.arange(cells).float() / cells * trained)[:, None] * frequency
    angle = angle.repeat_interleave(2, 1)  # [cells, half]
    row, column = angle[:, None].expand(-1, cells, -1), angle[None].expand(cells, -1, -1)
    angle = torch.cat([row, column], -1).flatten(0, 1)
    return torch.cat([angle.sin(), angle.cos()], -1)


def _projected(attn: Any, h: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, H, S, d] rotated queries and keys, and values, which the library's module keeps to itself."""
    query, key, value = (
        project(h).reshape(*h.shape[:2], attn.num_heads, -1).transpose(1, 2)
        for project in (attn.q_proj, attn.k_proj, attn.v_proj)
    )
    return apply_rot_embed_cat(query, rope).type_as(value), apply_rot_embed_cat(key, rope).type_as(value), value


def eva(sizes: dict[str, Any]) -> EvaEncoder:
    """EVA-02-L/16 of a detector, or of other ``sizes``."""
    return EvaEncoder(**sizes)


class EvaTower(WindowedTower):
    """`EvaEncoder`, block by block."""

    def __init__(self, name: str, model: EvaEncoder, prepare: Prepare = as_they_are) -> None:
        super().__init__()
        self.name, self.prepare = name, prepare
        self.model: Any = model  # as the library's modules
        self.dim = self.width = model.pos_embed.shape[-1]
        self.depth = len(model.blocks)
        self.side, self.open, self.cells = model.window, frozenset(model.global_blocks), model.cells

    def embed(self, pixels: Tensor) -> Tokens:
        x = self.model.patch_embed(self.prepare(pixels)) + self.model.positions()
        return Tokens.dense(x, Grid(1, self.cells, self.cells))

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        layer = self.model.blocks[block]
        h = layer.norm1(x)
        inside = block not in self.open
        if inside:
            h, seen = where.gather(h), where.seen(mask, x.dtype)
            rope = self.model.rotary_window[where.cell.flatten(0, 1)][:, None]
        else:
            seen, rope = mask, self.model.rotary[where.origin.clamp(min=0)][:, None]
        if probe is None:
            out = layer.attn(h, rope=rope, attn_mask=seen)
        else:
            query, key, value = _projected(layer.attn, h, rope)
            if inside:
                where.read(probe, query, key, seen)
            else:
                read_beside(probe, query, key, seen)
            out = scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)
            out = layer.attn.proj(layer.attn.norm(out))
        mixed: Tensor = x + (where.scatter(out) if inside else out)
        return mixed

    def feed(self, block: int, x: Tensor) -> Tensor:
        layer = self.model.blocks[block]
        out: Tensor = x + layer.mlp(layer.norm2(x))
        return out

    def finish(self, tokens: Tokens) -> Tokens:
        return tokens

    def flops_embed(self, height: int, width: int) -> int:
        return flops.conv2d(self.cells, self.cells, 3, self.dim, self.model.patch)

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        assert pairs is not None
        inner = self.model.blocks[0].mlp.fc2.in_features
        return pairs + 3 * flops.linear(mlp, self.dim, inner)
