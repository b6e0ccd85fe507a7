"""The vision encoders of Qwen2.5-VL and Qwen3-VL as towers of cells: 2 x 2 patches, which a merger makes one token.

A cell is dropped, kept or merged as a whole, so that the merger always has its four patches. The library packs the
windows within which a block attends (whole images, in some blocks or in all) one after another and says where each
ends, so one that was pruned is simply shorter and nothing is padded or masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from meteor_bench.core import flops
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.host import on_device, upload
from meteor_bench.core.model import VisionTower
from meteor_bench.core.pick import pick
from meteor_bench.core.tokens import Grid, Length, Tokens
from meteor_bench.models.fusions import OneProjector, linear_flops
from meteor_bench.models.windows import count_in_windows, window_of

__all__ = ["CellProjector", "DeepProjector", "DeepTower", "QwenTower"]


@dataclass(frozen=True)
class Packed:
    """Where the cells of R rows stand, for the blocks between two points.

    Attributes:
        index: [T] the valid cells in the flattened [R·N], row after row, window after window.
        window: [R, N] window of each cell, -1 for padding.
        rotary: cos and sin [4·T, head dimension] of the packed patches; None without storage, where FLOPs are counted.
        ends: patches at which a row ends, from 0; window_ends: at which a window ends. On the CPU, where the library
            asks for them in every block.
        pairs: [R] on the CPU, query-key pairs of patches in a row; window_pairs: within its windows.
    """

    index: Tensor
    window: Tensor
    rotary: tuple[Tensor, Tensor] | None
    ends: Tensor
    window_ends: Tensor
    pairs: Tensor
    window_pairs: Tensor


class QwenTower(VisionTower):
    """transformers' `Qwen2_5_VisionTransformerPretrainedModel` up to its merger.

    The width of a token is that of its cell, four patches. An encoder without windows has one for a whole image.
    """

    has_cls = False
    halves = True
    weighable = False  # the library's attention takes no mask here

    def __init__(self, name: str, model: Any) -> None:
        super().__init__()
        config = model.config
        self.name, self.config = name, config
        self.patch_embed, self.blocks, self.rotary = model.patch_embed, model.blocks, model.rotary_pos_emb
        self.depth, self.width = config.depth, config.hidden_size
        self.patch, self.side = config.patch_size, config.spatial_merge_size
        self.patches = self.side**2
        self.dim = self.patches * self.width
        self.cell = self.patch * self.side
        self.window = getattr(config, "window_size", 0) // self.cell
        self.open = frozenset(getattr(config, "fullatt_block_indexes", range(self.depth)))
        self.sizes: tuple[tuple[int, int], ...] = ()

    def sized(self, sizes: tuple[tuple[int, int], ...]) -> QwenTower:
        """The same tower for samples whose images have these heights and widths in cells, of what they are given."""
        made = copy(self)
        made.sizes = sizes
        return made

    def grid(self, height: int, width: int) -> Grid:
        return Grid(1, height // self.cell, width // self.cell)

    def embed(self, pixels: Tensor) -> Tokens:
        grid, m, p = self.grid(*pixels.shape[-2:]), self.side, self.patch
        cells = pixels.reshape(len(pixels), -1, grid.h, m, p, grid.w, m, p)
        cells = cells.permute(0, 2, 5, 3, 6, 1, 4, 7)  # [R, h, w, m, m, channels and frames, p, p]
        x = self.patch_embed(cells.reshape(-1, cells[0, 0, 0, 0, 0].numel()))
        tokens = Tokens.dense(self.placed(x.reshape(len(pixels), grid.n, self.dim), grid), grid)
        return self._inside(tokens) if self.sizes else tokens

    def placed(self, x: Tensor, grid: Grid) -> Tensor:
        """[R, grid.n, D] patch embeddings with what is added for their places; here nothing."""
        return x

    def _inside(self, tokens: Tokens) -> Tokens:
        """Without the cells that lie outside of their image; they count as if there were none."""
        grid = tokens.grid
        size = upload(self.sizes, tokens.x.device).repeat(len(tokens.x) // len(self.sizes), 1)  # [R, 2]
        row, column = tokens.origin // grid.w, tokens.origin % grid.w
        inside = (row < size[:, :1]) & (column < size[:, 1:])
        lengths = tuple(Length(h * w, 0) for h, w in self.sizes) * (len(tokens.x) // len(self.sizes))
        return pick(tokens.changed(group=tokens.group.masked_fill(~inside, -1)), inside, lengths=lengths)

    def where(self, tokens: Tokens) -> Packed:
        grid, rows = tokens.grid, len(tokens.x)
        side = self.window or max(grid.h, grid.w)
        row, column = tokens.origin // grid.w, tokens.origin % grid.w
        window = window_of(tokens.origin, grid, side)
        counts = count_in_windows(tokens, side)
        windows = counts.shape[1]
        of = torch.arange(rows, device=window.device)[:, None] * windows + window
        of = of.masked_fill(window < 0, rows * windows)  # padding behind everything
        index = of.flatten().argsort(stable=True)[: int(counts.sum())]
        inner = torch.arange(self.patches, device=window.device)
        place = torch.stack(
            [
                (row.flatten()[index, None] * self.side + inner // self.side).flatten(),
                (column.flatten()[index, None] * self.side + inner % self.side).flatten(),
            ],
            1,
        )
        per_window, per_row = self.patches * counts, self.patches * counts.sum(1)
        return Packed(
            index=index,
            window=window,
            rotary=None if self.rotary.inv_freq.is_meta else self.rotary(tokens.x, place),
            ends=_ends(per_row),
            window_ends=_ends(per_window.flatten()),
            pairs=per_row**2,
            window_pairs=(per_window**2).sum(1),
        )

    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        layer, flat = self.blocks[block], x.flatten(0, 1)
        packed = flat[where.index].reshape(-1, self.width)  # [4·T, D]
        h = layer.norm1(packed)
        if probe is not None:
            self._read(probe, layer.attn, h, where, inside=block not in self.open)
        ends = where.ends if block in self.open else where.window_ends
        packed = packed + layer.attn(h, cu_seqlens=ends, position_embeddings=where.rotary)
        return flat.index_copy(0, where.index, packed.reshape(-1, self.dim)).reshape(x.shape)

    def _read(self, probe: Probe, attn: Any, h: Tensor, where: Packed, *, inside: bool) -> None:
        """Let the probe read the block's attention, of cells: a cell gets what its patches get."""
        with nullcontext() if probe.clock is None else probe.clock.stage("prune"):
            rows, n = where.window.shape
            assert where.rotary is not None
            qkv = attn.qkv(h).reshape(len(h), 3, attn.num_heads, -1)
            query, key = apply_rotary_pos_emb_vision(qkv[:, 0], qkv[:, 1], *where.rotary)
            query, key = (self._unpacked(part, where, rows, n) for part in (query, key))
            window = where.window.repeat_interleave(self.patches, 1)  # [R, 4·N]
            seen = (window >= 0)[:, None, :].expand(-1, window.shape[1], -1)
            if inside:
                seen = seen & (window[:, None, :] == window[:, :, None])
            seen = seen | torch.eye(window.shape[1], dtype=torch.bool, device=h.device)
            part = replace(probe, queries=window >= 0, clock=None)
            part.read(query, key, seen[:, None], attn.scaling, False, 1)
            if part.attention is not None:
                probe.attention = part.attention.reshape(rows, n, -1).sum(2)
            if part.keys is not None:
                probe.keys = part.keys.reshape(rows, n, self.patches, -1).mean(2)

    def _unpacked(self, packed: Tensor, where: Packed, rows: int, n: int) -> Tensor:
        """[4·T, H, d] -> [R, H, 4·N, d], zeros for padding."""
        flat = packed.new_zeros(rows * n, self.patches, *packed.shape[1:])
        flat = flat.index_copy(0, where.index, packed.reshape(-1, *flat.shape[1:]))
        return flat.reshape(rows, n * self.patches, *packed.shape[1:]).transpose(1, 2)

    def feed(self, block: int, x: Tensor) -> Tensor:
        layer, patches = self.blocks[block], x.reshape(*x.shape[:2], self.patches, self.width)
        out: Tensor = patches + layer.mlp(layer.norm2(patches))
        return out.flatten(2)

    def finish(self, tokens: Tokens) -> Tokens:
        return tokens

    def pairs(self, block: int, where: Any) -> Tensor:
        pairs: Tensor = where.pairs if block in self.open else where.window_pairs
        return pairs

    def flops_embed(self, height: int, width: int) -> int:
        channels = self.config.in_channels * self.config.temporal_patch_size
        return flops.linear(self.grid(height, width).n * self.patches, channels * self.patch**2, self.width)

    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        queries = self.patches * attention
        pairs = queries**2 if pairs is None else pairs
        return (
            4 * flops.linear(queries, self.width, self.width)
            + flops.attention(1, pairs, self.width)
            + linear_flops(self.blocks[0].mlp, self.patches * mlp)
        )


def _ends(counts: Tensor) -> Tensor:
    """Cumulative lengths from 0, empty sequences left out."""
    ends = counts[counts > 0].cumsum(0)
    return torch.cat([ends.new_zeros(1), ends]).to(torch.int32)


class DeepTower(QwenTower):
    """transformers' `Qwen3VLVisionModel` up to its mergers: a table of positions, no windows, some blocks tapped."""

    def __init__(self, name: str, model: Any) -> None:
        super().__init__(name, model)
        self.taps = tuple(self.config.deepstack_visual_indexes)
        self.positions, self.model_side = model.pos_embed, model.num_grid_per_side
        self.resampling = {"mode": model.interpolation_mode, "align_corners": model.interpolation_align_corners}

    def placed(self, x: Tensor, grid: Grid) -> Tensor:
        sizes = self.sizes or ((grid.h, grid.w),)
        tables = torch.stack([self._table(h, w, grid, x) for h, w in sizes])
        return x + tables.repeat(len(x) // len(sizes), 1, 1)

    def _table(self, height: int, width: int, grid: Grid, x: Tensor) -> Tensor:
        """[grid.n, D] for an image of so many cells in the grid's corner; zeros outside of it."""
        from transformers.vision_utils import get_vision_interpolation_indices_and_weights

        m = self.side
        patches = torch.tensor([[1, height * m, width * m]])
        taps, weights = get_vision_interpolation_indices_and_weights(
            patches, self.model_side, spatial_merge_size=m, **self.resampling
        )
        taps, weights = on_device(taps, x.device), on_device(weights, x.device)
        table = (self.positions(taps) * weights[:, :, None]).sum(1).to(x.dtype)  # [height·width·m², width]
        table = table.reshape(height, width, self.dim)
        return pad(table, (0, 0, 0, grid.w - width, 0, grid.h - height)).reshape(grid.n, self.dim)


class CellProjector(OneProjector):
    """The library's patch merger: a norm of each patch, then an MLP over the cell."""

    def __init__(self, merger: Any) -> None:
        super().__init__(merger)
        self.width, self.out = merger.ln_q.weight.numel(), merger.mlp[-1].out_features

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        patches = tokens.x.reshape(-1, self.width)
        return tokens.with_x(self.projector(patches).reshape(*tokens.x.shape[:2], self.out))

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(linear_flops(self.projector, n) for n in counts.values())


class DeepProjector(OneProjector):
    """Qwen3-VL's patch merger for the cells of the last block, and one for those of each tap (`Tokens.deep`)."""

    def __init__(self, merger: Any, deep: Sequence[Any]) -> None:
        super().__init__(merger)
        self.deep = nn.ModuleList(deep)
        self.dim, self.width, self.out = merger.hidden_size, merger.norm.weight.numel(), merger.linear_fc2.out_features

    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        out = tokens.with_x(self._merged(self.projector, tokens.x))
        if tokens.deep is None:
            return out
        parts = torch.split(tokens.deep, self.dim, 2)
        deep = [self._merged(merger, part) for merger, part in zip(self.deep, parts, strict=True)]
        return out.changed(deep=torch.cat(deep, 2))

    def _merged(self, merger: Any, x: Tensor) -> Tensor:
        """[B, N, dim] cells -> [B, N, D_llm]."""
        out: Tensor = merger(x.reshape(-1, self.width)).reshape(*x.shape[:2], self.out)
        return out

    def flops(self, counts: Mapping[str, int]) -> int:
        return sum(linear_flops(m, n) for m in (self.projector, *self.deep) for n in counts.values())
