"""What the engine asks of a vision encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["VisionTower"]


class VisionTower(nn.Module, ABC):
    """A vision encoder cut into blocks. Rows are frames: a clip of 4 frames is 4 rows.

    Attributes:
        name: key of the tower in the model.
        dim: width of its features.
        depth: number of transformer blocks; 0 for an opaque (convolutional) tower that is run whole by `embed`.
        has_cls: whether its first token is a class token.
        halves: whether a block can be interrupted between attention and MLP.
        opens: whether a probe can read the values and the logits of its attention.
        weighable: whether its attention takes a mask of numbers, so that merged tokens can count for several.
        taps: blocks, ascending, behind each of which the tokens' features go into `Tokens.deep`, for the fusion to
            project with those of the last; of towers of independent fusions.
    """

    name: str
    dim: int
    depth: int
    has_cls: bool
    halves: bool
    opens: bool = False
    weighable: bool = True
    taps: tuple[int, ...] = ()

    @property
    def inside(self) -> int:
        """Width of the sequence between two blocks."""
        return self.dim

    @property
    def specials(self) -> int:
        """Class and register tokens, which stand first."""
        return int(self.has_cls)

    @abstractmethod
    def grid(self, height: int, width: int) -> Grid:
        """Token grid (t = 1) of one frame of that many pixels, as the processor delivers it."""

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tokens:
        """[R, 3, H, W] -> tokens before the first block (the whole encoder when ``depth`` is 0)."""

    def where(self, tokens: Tokens) -> Any:
        """What the blocks must know about where the tokens stand (rotations, windows), for `attend`.

        It is asked for once between two points. By default nothing.
        """
        return None

    @abstractmethod
    def attend(self, block: int, x: Tensor, mask: Tensor | None, probe: Probe | None, where: Any = None) -> Tensor:
        """Attention half of a block with its residual: [R, N, D] -> [R, N, D].

        Args:
            mask: [R, 1, N, N] bool, True where a query may see a key, or float, added to the logits; None when
                nothing is padded.
            where: what `where` gave for these tokens.
        """

    @abstractmethod
    def feed(self, block: int, x: Tensor) -> Tensor:
        """MLP half of a block with its residual: [R, N, D] -> [R, N, D]."""

    @abstractmethod
    def finish(self, tokens: Tokens) -> Tokens:
        """Final norm; class tokens are removed here."""

    @abstractmethod
    def flops_embed(self, height: int, width: int) -> int:
        """FLOPs of `embed` for one frame."""

    def windows(self, tokens: Tokens) -> Tensor | None:
        """[R, N] index of the window in which most blocks see a token, -1 for padding; None: all see everything."""
        return None

    def in_windows(self, tokens: Tokens) -> Tensor | None:
        """[R, W] long on the CPU, tokens in each window, where there are `windows`."""
        return None

    def left_in_windows(self, tokens: Tokens) -> Tensor | None:
        """The same where the tokens are, without waiting for a GPU; None where the host knows it, or has no windows."""
        return None

    def pairs(self, block: int, where: Any) -> Tensor | None:
        """[R] query-key pairs that a block's attention computes; None: every token with every token.

        Or whatever else `flops_block` can tell the block's FLOPs from.
        """
        return None

    @abstractmethod
    def flops_block(self, attention: int, mlp: int, pairs: int | None = None) -> int:
        """FLOPs of one block for one frame, given the sequence lengths of its two halves, specials included.

        Args:
            pairs: query-key pairs of its attention (see `pairs`); None: ``attention`` squared.
        """

    def flops_finish(self, tokens: int) -> int:
        """FLOPs of `finish` for that many tokens of one frame; a norm alone counts nothing."""
        return 0
