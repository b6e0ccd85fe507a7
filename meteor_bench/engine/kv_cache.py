"""Key/value cache whose layers may hold different tokens: pruning before layer k leaves layers below k longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["LayerCache"]


class LayerCache:
    """Keys and values per layer, with room to grow in place.

    Args:
        depth: number of layers.
        slack: tokens of room allocated beyond what is appended, each time that room is needed.
    """

    def __init__(self, depth: int, slack: int = 0) -> None:
        self.depth = depth
        self._slack = [slack] * depth
        self._keys: list[Tensor | None] = [None] * depth
        self._values: list[Tensor | None] = [None] * depth
        self._used = [0] * depth

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append [B, H, n, d] to a layer and return all it holds, [B, H, used, d] (a view)."""
        used, new = self._used[layer_idx], keys.shape[2]
        stored = self._keys[layer_idx]
        if stored is None or used + new > stored.shape[2]:
            self._grow(layer_idx, keys, values, used + new + self._slack[layer_idx])
        key_store, value_store = self._keys[layer_idx], self._values[layer_idx]
        assert key_store is not None and value_store is not None
        key_store[:, :, used : used + new] = keys
        value_store[:, :, used : used + new] = values
        self._used[layer_idx] = used + new
        return key_store[:, :, : used + new], value_store[:, :, : used + new]

    def _grow(self, layer: int, keys: Tensor, values: Tensor, size: int) -> None:
        for store, like in ((self._keys, keys), (self._values, values)):
            old = store[layer]
            b, h, _, d = like.shape
            fresh = like.new_empty(b, h, size, d)
            if old is not None:
                fresh[:, :, : self._used[layer]] = old[:, :, : self._used[layer]]
            store[layer] = fresh

    def width(self, layer: int) -> int:
        """Slots used in a layer, padding included."""
        return self._used[layer]

    def held(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, used, d] of a layer; views."""
        keys, values, used = self._keys[layer], self._values[layer], self._used[layer]
        assert keys is not None and values is not None, "an empty layer"
        return keys[:, :, :used], values[:, :, :used]

    def select(self, rows: Sequence[Tensor], slack: Sequence[int], slack_after: int) -> LayerCache:
        """A new cache holding copies of rows.

        Args:
            rows: for each of the first layers, those that are cached, which rows of its.
            slack: tokens of room in each of them, as for a new cache.
            slack_after: in the layers behind them.
        """
        out = LayerCache(self.depth, slack_after)
        for layer, (chosen, room) in enumerate(zip(rows, slack, strict=True)):
            keys, values, used = self._keys[layer], self._values[layer], self._used[layer]
            assert keys is not None and values is not None
            out._keys[layer] = _rows(keys, chosen, used, room)
            out._values[layer] = _rows(values, chosen, used, room)
            out._used[layer], out._slack[layer] = used, room
        return out


def _rows(store: Tensor, rows: Tensor, used: int, slack: int) -> Tensor:
    """[len(rows), H, used + slack, d] with the first ``used`` slots copied."""
    _, h, _, d = store.shape
    out = store.new_empty(len(rows), h, used + slack, d)
    torch.index_select(store[:, :, :used], 0, rows, out=out[:, :, :used])  # one copy, not two
    return out
