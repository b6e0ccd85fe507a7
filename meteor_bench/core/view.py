"""What the engine shows a method at a point; what the method gives back is a `core.decision.Decision`.

There is a view for each stage, which holds only what there is to see there. What a point must ask for and did not
(`DecodePoint(keys=True)`) is an error in one line when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, overload

import torch
from torch import Tensor

from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.frames_apart import FramesApart
from meteor_bench.core.points import Stage
from meteor_bench.core.tokens import Grid, Lazy, Tokens

__all__ = ["DecodeView", "EncodeView", "FuseView", "Layout", "View"]

T = TypeVar("T")


class _Asked(Generic[T]):
    """A field of a view that is there only where the method's point asked for it.

    Args:
        by: how a point asks for it.
    """

    def __init__(self, by: str) -> None:
        self._by, self._name = by, ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, view: None, owner: type) -> T | None: ...

    @overload
    def __get__(self, view: object, owner: type) -> T: ...

    def __get__(self, view: object | None, owner: type) -> T | None:
        if view is None:
            return None  # the field's default
        value: T | None = vars(view)[self._name]
        if value is None:
            raise UnsupportedError(f"{owner.__name__}.{self._name} was not asked for here: say {self._by} in points()")
        return value

    def __set__(self, view: object, value: T | None) -> None:
        vars(view)[self._name] = value


@dataclass(frozen=True)
class Layout:
    """The model's shape around a view.

    Attributes:
        fusion: "independent" or "shared".
        grids: tower -> its unpruned grid per row (tower points: of a frame, or of a clip where the row is one; fuse and
            decode points: of a sample).
        depths: tower -> number of blocks, 0 for an opaque tower.
        cells: shared fusion, fuse and decode points: tower -> [N] the cell of its grid that is nearest to each cell of
            the common grid, where that is no resampling of whole frames (tiles put together); others are missing.
        framed: whether what a sample's grid counts first may be frames of a clip (`Scene.framed`), not tiles of an
            image.
    """

    fusion: Literal["independent", "shared"]
    grids: Mapping[str, Grid]
    depths: Mapping[str, int]
    cells: Mapping[str, Tensor] = field(default_factory=dict)
    framed: bool = True


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class View:
    """What a method may look at, read-only, at every point, for one kind of sequence.

    Attributes:
        stage: "encode", "fuse" or "decode".
        tokens: the sequence; only `tokens.visual` may be dropped. At a decode point it holds just the visual
            tokens of the language model's sequence, in order.
        target: [B] long on the CPU, whatever device the tokens are on, the number of visual tokens the engine's budget
            suggests keeping here; a method with a schedule of its own may ignore it at all points but the last. Encode
            points: the row's (frame's) share of the sample's budget, all towers together. Fuse points: the sample's
            budget, all towers together.
        reference: [B] long on the CPU, what the unpruned reference model feeds its LLM for this row (at encode points
            the frame's share): ``target`` is the kept share of it.
        keep: `TokenBudget.keep`.
        layout: the model's towers, also those that are not asked here.
        generators: one seeded torch.Generator per row, the same for a sample in whatever batch it comes.
        tower: the tower's name, "fused" for a joined sequence, "llm" at a decode point.
        has_cls: encode points: whether the tower has a class token.
        point: index of the point among the method's points of that kind.
        facts: constants measured offline for this model and method (say: METEOR's ranks, its lambda).
    """

    stage: ClassVar[Stage]

    tokens: Tokens
    target: Tensor
    reference: Tensor
    keep: float
    layout: Layout
    tower: str
    has_cls: bool = False
    point: int = 0
    generators: Sequence[torch.Generator] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def candidates(self) -> Tensor | None:
        """`tokens.visual`, or None where the host knows that all tokens are (for `keep_top`)."""
        return None if self.tokens.plain else self.tokens.visual

    @property
    def compared(self) -> Tensor:
        """[B, N, D] what tokens are compared by: their features, or an encoder's keys where it gave some."""
        return self.tokens.x

    def changed(self, **changes: Any) -> Self:
        """The same view with other fields."""
        return type(self)(**{**vars(self), **changes})


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class EncodeView(View):
    """One tower's sequence inside or at the end of it; rows are frames, or clips where `Points.clips` asks for them.

    Of a clip, ``target``, ``reference`` and ``layout.grids`` are the whole clip's, and there are no windows.

    Attributes:
        attention: [B, N] the statistic asked for, already averaged over heads; None where the tower has no blocks, or
            none was asked for.
        keys: [B, N, Dk] as asked for; None where the tower has no blocks, or none were asked for.
        values: [B, N, H, d] of each head, where asked for.
        logits: [B, N, N] float32 attention logits of each query, averaged over heads, where asked for; what padding has
            there does not matter.
        windows: [B, N] long, index of the window in which most blocks of the tower see a token, -1 for padding; None
            where all see everything. A tower is fastest with equally many tokens in every window.
        in_windows: [B, W] on the CPU, tokens in each window, where there are windows; a GPU may have to be waited for.
        layer: how many blocks have run.
        layers: the tower's `layer` at each of the method's points that name it.
        inside: whether the point lies between the attention and the MLP of a block.
        frames: the frames of the clips, where the rows are clips; None: the rows are frames.
        memo: what the method's decisions at earlier points left (`Decision.memo`), all towers' together.
    """

    stage: ClassVar[Stage] = "encode"

    attention: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    logits: Tensor | None = None
    windows: Lazy[Tensor | None] = Lazy(optional=True)
    in_windows: Lazy[Tensor | None] = Lazy(optional=True)
    layer: int = 0
    layers: tuple[int, ...] = ()
    inside: bool = False
    frames: FramesApart | None = None
    memo: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def compared(self) -> Tensor:
        """[B, N, Dk] the keys where they were asked for, else the features."""
        return self.tokens.x if self.keys is None else self.keys


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class FuseView(View):
    """Tokens between the encoders and the language model: one view for each tower, or one of the joined sequence.

    Attributes:
        text: [B, T, D] embeddings of the question's tokens, zero rows for padding, where asked for.
        partials: tower -> [B, N, D'] partial first projections on a shared fusion, where asked for; else empty.
        groups: tower -> [B, G] long, the tower's `Tokens.group` for the whole sample (frames one after another,
            origins counted through).
        left: tower -> [B] long on the CPU, tokens that left the tower, of the whole sample.
        scores: tower -> [B, G] float, the `Decision.score` of the method's last encode point for the token that
            stands for each cell of the tower's unpruned grid (frames one after another), -inf where a cell had been
            dropped before that point. Towers whose encode decisions gave no score are missing.
        whole: towers of which the host knows that no cell had been dropped before that point.
    """

    stage: ClassVar[Stage] = "fuse"

    text: _Asked[Tensor] = _Asked("FusePoint(text=True)")
    partials: Mapping[str, Tensor] = field(default_factory=dict)
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    left: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class DecodeView(View):
    """The language model's visual tokens before one of its layers.

    Attributes:
        attention: [B, H, R, N] softmax rows over the visual tokens, as asked for; rows that are padding are zero.
        keys: [B, N, Dk] as asked for.
        text: [B, T, D] hidden states of the tokens after the image, zero rows for padding.
        text_valid: [B, T] bool, which of them are tokens.
        text_keys: [B, T, Dk], where keys were asked for.
        rope: [L] at each distance between a query and a key, the sum over frequencies of
            2·cos(distance·frequency) / sqrt(head dimension), where asked for.
        layer: index of the layer that comes next.
        layers: the `layer` of each of the method's points.
        memo: what the method's decisions at earlier points left (`Decision.memo`); what encode points left comes as
            [B, frames, ...].
    """

    stage: ClassVar[Stage] = "decode"

    attention: _Asked[Tensor] = _Asked('DecodePoint(attention="last" or "text")')
    keys: _Asked[Tensor] = _Asked("DecodePoint(keys=True)")
    text: _Asked[Tensor] = _Asked("a DecodePoint")
    text_valid: _Asked[Tensor] = _Asked("a DecodePoint")
    text_keys: _Asked[Tensor] = _Asked("DecodePoint(keys=True)")
    rope: _Asked[Tensor] = _Asked("DecodePoint(rope=True)")
    layer: int = 0
    layers: tuple[int, ...] = ()
    memo: Mapping[str, Tensor] = field(default_factory=dict)
