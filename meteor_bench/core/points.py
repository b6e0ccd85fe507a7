"""Where a method asks to be asked, and what it wants to be shown there. Plain data; `Pruner.points` returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["DecodePoint", "EncodePoint", "FusePoint", "Points", "Stage", "TextRows", "TowerAttention"]

TowerAttention = Literal["cls", "received", "peak"]
TextRows = Literal["last", "text"]
Stage = Literal["encode", "fuse", "decode"]


@dataclass(frozen=True)
class EncodePoint:
    """A point inside (or at the end of) the encoders, reached by all named towers in lock-step.

    Attributes:
        after: tower -> number of blocks run before the method is asked; ``tower.depth`` means its output. Towers
            that are not named run on unpruned.
        inside: ask between the attention (with its residual) and the MLP of the last of those blocks.
        attention: the attention statistic wanted from the last of those blocks: "cls" is the class token's row,
            averaged over heads (a tower without one gives "received" and the substitution is recorded); "received"
            is the mean over queries and heads of the attention that each token gets; "peak" the mean over queries of
            its maximum over heads. A tower without blocks gives none, which is recorded.
        attention_block: tower -> index of the block whose attention is read, where it is not the last one run.
        keys: also give the keys of that block, averaged over heads.
        single_head: take that block's heads as one of the full width: its attention's scale is D^-1/2, and the keys
            are concatenated instead of averaged.
        values, logits: also give that block's values, and its logits averaged over heads; of towers whose attention can
            be read so (`VisionTower.opens`).
    """

    after: Mapping[str, int]
    inside: bool = False
    attention: TowerAttention | None = None
    attention_block: Mapping[str, int] = field(default_factory=dict)
    keys: bool = False
    single_head: bool = False
    values: bool = False
    logits: bool = False


@dataclass(frozen=True)
class FusePoint:
    """The point between projection and the language model.

    Attributes:
        text: the method needs the question's embeddings, so its decision cannot be shared by the questions of an
            image.
        partial: on a shared fusion, also give every tower's part of the first projection (`FuseView.partials`).
        features: on a shared fusion, ask BEFORE the projector: `FuseView.tokens.x` is the aligned concatenation of the
            towers' features and the decision is applied to it.
    """

    text: bool = False
    partial: bool = False
    features: bool = False


@dataclass(frozen=True)
class DecodePoint:
    """A point before language-model layer ``before`` (0 is the model's input).

    Attributes:
        before: layer index; rows of attention are read from layer ``before - 1``.
        attention: which query rows are wanted: "last" prompt token, or all "text" tokens that follow the image.
        keys: also give the rotated keys of layer ``before - 1``, heads side by side.
        peek: read attention and keys from layer ``before`` itself instead, run for this purpose on the sequence as it
            stands; nothing of it is cached, its cost counts as pruning.
        normed: give tokens and text after the decoder's final norm.
        rope: also give the position encoding's bias (`DecodeView.rope`).
    """

    before: int
    attention: TextRows | None = None
    keys: bool = False
    peek: bool = False
    normed: bool = False
    rope: bool = False

    @property
    def reads_before(self) -> bool:
        """Whether something is read from layer ``before - 1`` while it runs."""
        return self.before > 0 and not self.peek and (self.attention is not None or self.keys)


@dataclass(frozen=True)
class Points:
    """Where a method wants to be asked; `encode` and `decode` in the order in which they are reached.

    Attributes:
        proportional: add the logarithm of `Tokens.size` to the towers' attention logits, so that a merged token counts
            as the patches it stands for.
        clips: at encode points, show each clip as one row, its frames one after another, so that a merge may lead from
            frame to frame. Attention stays within a frame, and a frame without visual tokens costs nothing any more.
            Images, and their tiles, are shown as ever.
    """

    encode: tuple[EncodePoint, ...] = ()
    fuse: FusePoint | None = None
    decode: tuple[DecodePoint, ...] = ()
    proportional: bool = False
    clips: bool = False

    @property
    def text_layer(self) -> int | None:
        """First language-model layer whose input depends on the question, None when no decode point exists."""
        return min((p.before for p in self.decode), default=None)
