"""Bases for methods that score tokens: the base owns where it is asked, the top-k and the sharing among encoders.

A subclass is a frozen dataclass with a `score`; whatever else a method needs (another choice than the highest scores,
a merge) overrides `choose`. `EncodeScorer`, for scores at the encoders' outputs, is in `methods.shared.selection`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import PluginError, UnsupportedError
from meteor_bench.core.points import TextRows
from meteor_bench.core.pruner import (
    Decision,
    DecodePoint,
    DecodeView,
    FusePoint,
    FuseView,
    Points,
    Pruner,
    Stage,
    View,
    keep_top,
)
from meteor_bench.core.settings import Layer
from meteor_bench.methods.shared.helpers import per_tower

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = ["DecodeScorer", "FuseChooser", "FuseScorer", "Scorer"]


class Scorer(Pruner, ABC):
    """What the bases of scoring methods share: a name for messages, and the stage that a subclass need not repeat."""

    title: ClassVar[str] = ""
    stage: ClassVar[Stage]

    def scored(self, view: View, score: Any) -> Tensor:
        """What `score` gave, if it is a number for each token.

        Raises:
            PluginError: naming the method, what it gave and what is expected.
        """
        wanted = view.tokens.x.shape[:2]
        if isinstance(score, Tensor) and score.shape == wanted:
            return score
        found = f"a tensor {list(score.shape)}" if isinstance(score, Tensor) else f"a {type(score).__name__}"
        raise PluginError(f"{type(self).__name__}.score gave {found}; expected a tensor [B, N] = {list(wanted)}")

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.title in {"", *(base.__name__.lower() for base in cls.__mro__[1:])}:  # nobody chose it
            cls.title = cls.__name__.lower()
        if not cls.fact.stages:
            cls.fact = replace(cls.fact, stages=(cls.stage,))


@dataclass(frozen=True)
class FuseChooser(Scorer):
    """A choice among projected tokens, before the language model.

    On an independent fusion each encoder is pruned on its own, the budget split in proportion to the token counts.

    Class attributes:
        asks: what is shown there, say ``FusePoint(text=True)`` for a score that needs the question.
    """

    stage: ClassVar[Stage] = "fuse"
    asks: ClassVar[FusePoint] = FusePoint()

    @abstractmethod
    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Keep ``share`` [B] tokens of a sequence."""

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before the language model."""
        return Points(fuse=self.asks)

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Choose among each sequence's tokens, the budget shared."""
        return per_tower(views, self.choose)


@dataclass(frozen=True)
class FuseScorer(FuseChooser):
    """A score of projected tokens, before the language model; the highest stay."""

    @abstractmethod
    def score(self, view: FuseView) -> Tensor:
        """[B, N] what tokens are ranked by, the highest stay; ties go to the lower index."""

    def choose(self, view: FuseView, share: Tensor) -> Decision:
        """Keep the ``share`` [B] highest scores."""
        score = self.scored(view, self.score(view))
        return Decision(keep=keep_top(score, share, view.candidates), score=score, count=share)


@dataclass(frozen=True)
class DecodeScorer(Scorer):
    """A score of the visual tokens before one layer of the language model; the highest stay.

    Attributes:
        layer: tokens are dropped before this language-model layer (0-based, at least 1).

    Class attributes:
        rows: whose attention is shown, from the layer before: "last" prompt token or all of the "text".
        keys: also show the keys of the layer before.
    """

    layer: Layer = 2

    stage: ClassVar[Stage] = "decode"
    rows: ClassVar[TextRows] = "last"
    keys: ClassVar[bool] = False

    @abstractmethod
    def score(self, view: DecodeView) -> Tensor:
        """[B, N] what tokens are ranked by, the highest stay; ties go to the lower index."""

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Before layer `layer`."""
        if self.layer >= vlm.decoder.depth:
            raise UnsupportedError(
                f"{self.title} with layer={self.layer} needs a deeper language model than '{vlm.name}' "
                f"({vlm.decoder.depth} layers); take at most {vlm.decoder.depth - 1}"
            )
        return Points(decode=(DecodePoint(before=self.layer, attention=self.rows, keys=self.keys),))

    def decode(self, view: DecodeView) -> Decision:
        """Keep the budget's number of tokens."""
        score = self.scored(view, self.score(view))
        return Decision(keep=keep_top(score, view.target, view.candidates), score=score, count=view.target)
