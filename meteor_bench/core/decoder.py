"""What the engine asks of a language model, and a language model of the cache that the engine gives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

from torch import Tensor, nn

from meteor_bench.core.attention_probe import Probe

__all__ = ["Decoder", "KVCache"]


class KVCache(Protocol):
    """What a library attention module calls; see `engine.kv_cache`."""

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append [B, H, n, d] to a layer's cache; returns everything cached in it."""
        ...


class Decoder(nn.Module, ABC):
    """The language model, one layer at a time.

    Attributes:
        dim, depth, heads, kv_heads: its shape.
        axes: of its position ids.
    """

    dim: int
    depth: int
    heads: int
    kv_heads: int
    axes: int = 1

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """[B, T] ids -> [B, T, D]."""

    @abstractmethod
    def rotary(self, h: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of ids [B, T], or [B, T, A] where a token stands on A axes, in the dtype of ``h``."""

    @abstractmethod
    def layer(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache,
        probe: Probe | None,
    ) -> Tensor:
        """Run one layer on [B, T, D]; keys and values are appended to ``cache``.

        Args:
            mask: [B, 1, T, K] bool over cached plus new keys; None: causal, nothing padded.
        """

    def peek(
        self,
        index: int,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        probe: Probe | None,
        scratch: KVCache,
    ) -> None:
        """Let the probe read one layer's attention on [B, T, D]; no output is kept.

        Args:
            scratch: an empty cache for a decoder that cannot do without one; thrown away afterwards.
        """
        self.layer(index, h, rotary, mask, scratch, probe)

    def fill(self, index: int, h: Tensor, rotary: tuple[Tensor, Tensor], cache: KVCache) -> None:
        """Append one layer's keys and values of [B, T, D] to ``cache``; its output is not wanted."""
        self.layer(index, h, rotary, None, cache, None)

    @abstractmethod
    def norm(self, h: Tensor) -> Tensor:
        """Final norm: [..., D] -> [..., D]."""

    @abstractmethod
    def head(self, h: Tensor) -> Tensor:
        """Final norm and vocabulary projection: [B, D] -> [B, V]."""

    @abstractmethod
    def flops_layer(self, queries: int, keys: int) -> int:
        """FLOPs of one layer for that many new tokens over ``keys`` keys (cached plus new), no causal discount."""

    def flops_at(self, index: int, queries: int, keys: int) -> int:
        """`flops_layer` of a layer by its index, for models whose layers are not all alike."""
        return self.flops_layer(queries, keys)

    @abstractmethod
    def flops_head(self, tokens: int) -> int:
        """FLOPs of the vocabulary projection."""
