"""An encoder on its way through its blocks, and what ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from meteor_bench.core.frames_apart import FramesApart, apart
from meteor_bench.core.model import VisionTower
from meteor_bench.core.tokens import Length, Tokens

__all__ = ["Ran", "TowerRun"]


class Ran(NamedTuple):
    """Blocks that ran on the same sequences.

    Attributes:
        times: how many.
        attention, mlp: R sequence lengths in their two halves.
        pairs: [R] see `VisionTower.pairs`.
    """

    times: int
    attention: Sequence[int]
    mlp: Sequence[int]
    pairs: Tensor | None


@dataclass
class TowerRun:
    """A tower on its way through its blocks.

    Attributes:
        tokens: [R] rows of a frame each, or of a whole clip where the method asks for that (`Points.clips`).
        apart: the frames of clips, until a decision changes them; None: the rows are frames.
        scored: the last decision's tokens, without features, and score [R, N].
    """

    tower: VisionTower
    tokens: Tokens
    done: int = 0
    blocks: list[Ran] = field(default_factory=list)
    scored: tuple[Tokens, Tensor] | None = None
    apart: FramesApart | None = None

    @property
    def rows(self) -> Tokens:
        """What the blocks run on, frames."""
        return self.tokens if self.apart is None else self.apart.tokens

    @property
    def lengths(self) -> tuple[Length, ...]:
        """Tokens of each frame."""
        return self.tokens.host if self.apart is None else self.apart.lengths

    def ran(self, x: Tensor) -> None:
        """Take what the blocks made of `rows`."""
        self.tokens = self.tokens.with_x(self.joined(x, self.tokens.x))
        self.apart = None if self.apart is None else self.apart.with_x(x)

    def joined(self, values: Tensor, otherwise: Tensor | None = None) -> Tensor:
        """What belongs to `rows` [.., n, ...] as what belongs to `tokens` [.., N, ...]; see `FramesApart.join`."""
        return values if self.apart is None else self.apart.join(values, otherwise)

    def decided(self, tokens: Tokens) -> None:
        """Take what a decision left."""
        if self.apart is not None and tokens is not self.tokens:
            self.apart = apart(tokens)
        self.tokens = tokens

    def flops(self, height: int, width: int) -> list[int]:
        """[R] for each frame, on the lengths that its blocks really had."""
        embed = self.tower.flops_embed(height, width)
        total = [embed + self.tower.flops_finish(length.visual) for length in self.lengths]
        for ran in self.blocks:
            pairs = [None] * len(total) if ran.pairs is None else ran.pairs.tolist()
            lengths = zip(ran.attention, ran.mlp, pairs, strict=True)
            for row, (attention, mlp, own) in enumerate(lengths):
                total[row] += ran.times * self.tower.flops_block(attention, mlp, own)
        return total
