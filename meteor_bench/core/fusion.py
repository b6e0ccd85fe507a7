"""What the engine asks of a model's fusion: the way of the encoders' tokens into the language model's space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["Fusion", "FusionKind"]


FusionKind = Literal["independent", "shared"]


class Fusion(nn.Module, ABC):
    """Brings the towers' tokens into the language model's space.

    Attributes:
        kind: "independent": one projector per tower, sequence concatenation in tower order. "shared": towers
            resampled to one grid, concatenated along channels, one projector.
    """

    kind: FusionKind

    @abstractmethod
    def align(self, towers: Mapping[str, Tensor], grids: Mapping[str, Grid]) -> Tensor:
        """Shared only: dense per-sample features {tower: [B, G_l, D_l]} -> [B, N, sum of D_l] on the common grid."""

    @abstractmethod
    def common(self, grids: Mapping[str, Grid]) -> Grid:
        """Shared only: the grid that the towers are resampled to."""

    def cells(self, grids: Mapping[str, Grid]) -> Mapping[str, Tensor]:
        """Shared only: see `Layout.cells`."""
        return {}

    @abstractmethod
    def project(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        """Features -> [B, N, D_llm]. ``tower`` names the projector of an independent fusion."""

    def place(self, tokens: Tokens, tower: str | None = None) -> Tokens:
        """Add what a model adds after projection (position tables); by default nothing."""
        return tokens

    @abstractmethod
    def partials(self, aligned: Tensor) -> dict[str, Tensor]:
        """Shared only: W·concat(f_l) split by tower, {tower: [B, N, hidden]}; they sum to W·f (bias left out)."""

    def flops_align(self, grids: Mapping[str, Grid]) -> int:
        """Shared only: FLOPs of `align` for a sample; resampling alone counts nothing."""
        return 0

    @abstractmethod
    def flops(self, counts: Mapping[str, int]) -> int:
        """FLOPs of projecting that many tokens per tower (shared: the key "fused")."""
