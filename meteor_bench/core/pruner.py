"""The protocol between a pruning method and the engine: a method decides, the engine applies.

A method is a frozen dataclass of hyperparameters that derives from `Pruner`. It declares where it wants to be
asked (`points`) and answers with a `Decision` for each sequence it was shown. It never touches a model, never
stores a tensor, and never depends on the other rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.tokens import Grid, Tokens

if TYPE_CHECKING:
    from meteor_bench.models.base import VLM

__all__ = [
    "DecodePoint",
    "Decision",
    "EncodePoint",
    "Fact",
    "FusePoint",
    "Layout",
    "Points",
    "Pruner",
    "Stage",
    "View",
    "keep_top",
]

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
    """

    after: Mapping[str, int]
    inside: bool = False
    attention: TowerAttention | None = None
    attention_block: Mapping[str, int] = field(default_factory=dict)
    keys: bool = False
    single_head: bool = False


@dataclass(frozen=True)
class FusePoint:
    """The point between projection and the language model.

    Attributes:
        text: the method needs the question's embeddings, so its decision cannot be shared by the questions of an
            image.
        partial: on a shared fusion, also give every tower's part of the first projection (`View.partials`).
        features: on a shared fusion, ask BEFORE the projector: `View.tokens.x` is the aligned concatenation of the
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
        rope: also give the position encoding's bias (`View.rope`).
    """

    before: int
    attention: TextRows | None = None
    keys: bool = False
    peek: bool = False
    normed: bool = False
    rope: bool = False


@dataclass(frozen=True)
class Points:
    """Where a method wants to be asked; `encode` and `decode` in the order in which they are reached.

    Attributes:
        proportional: add the logarithm of `Tokens.size` to the towers' attention logits, so that a merged token counts
            as the patches it stands for.
    """

    encode: tuple[EncodePoint, ...] = ()
    fuse: FusePoint | None = None
    decode: tuple[DecodePoint, ...] = ()
    proportional: bool = False

    @property
    def text_layer(self) -> int | None:
        """First language-model layer whose input depends on the question, None when no decode point exists."""
        return min((p.before for p in self.decode), default=None)


@dataclass(frozen=True)
class Layout:
    """The model's shape around a view.

    Attributes:
        fusion: "independent" or "shared".
        grids: tower -> its unpruned grid per row (tower points: of a frame; fuse and decode points: of a sample).
        depths: tower -> number of blocks, 0 for an opaque tower.
    """

    fusion: Literal["independent", "shared"]
    grids: Mapping[str, Grid]
    depths: Mapping[str, int]


@dataclass(frozen=True)
class View:
    """What a method may look at, read-only, for one sequence kind at one point.

    Attributes:
        tokens: the sequence; only `tokens.visual` may be dropped. At a decode point it holds just the visual
            tokens of the language model's sequence, in order.
        target: [B] long, the number of visual tokens the engine's budget suggests keeping here; a method with a
            schedule of its own may ignore it at all points but the last. Tower points: the row's (frame's) share of
            the sample's budget, all towers together. Fuse points: the sample's budget, all towers together.
        reference: [B] long, what the unpruned reference model feeds its LLM for this row (at tower points the
            frame's share): ``target`` is the kept share of it.
        keep: `TokenBudget.keep`.
        layout: the model's towers, also those that are not asked here.
        layers: this tower's (or the decoder's) `layer` at each of the method's points of this kind that name it.
        inside: whether the point lies between the attention and the MLP of a block.
        groups: fuse points: tower -> [B, G] long, the tower's `Tokens.group` for the whole sample (frames one after
            another, origins counted through).
        scores: fuse points: tower -> [B, G] float, the `Decision.score` of the method's last encode point for the token
            that stands for each cell of the tower's unpruned grid (frames one after another), -inf where a cell had
            been dropped before that point. Towers whose encode decisions gave no score are missing.
        attention: the rows asked for. Tower points: [B, N] (already averaged over heads). Decode points:
            [B, H, R, N] softmax rows over the visual tokens; rows that are padding are zero.
        keys: [B, N, Dk] as asked for.
        text: [B, T, D] embeddings of the question's tokens where asked for (decode points: their hidden states), zero
            rows for padding.
        text_valid: decode points: [B, T] bool, which of them are tokens.
        text_keys: decode points: [B, T, Dk], where keys were asked for.
        rope: decode points: [L] at each distance between a query and a key, the sum over frequencies of
            2·cos(distance·frequency) / sqrt(head dimension), where asked for.
        memo: decode points: what the method's decisions at earlier points left for this one (`Decision.memo`); what
            encode points left comes as [B, frames, ...].
        partials: tower -> [B, N, D'] partial first projections on a shared fusion, where asked for.
        generators: one seeded torch.Generator per row, the same for a sample in whatever batch it comes.
        tower: the tower's name, "fused" for a joined sequence, "llm" at a decode point.
        has_cls: whether the tower has a class token.
        layer: the block count or layer index of the point.
        point: index of the point among the method's points of that kind.
        facts: constants measured offline for this model and method (say: METEOR's ranks, its lambda).
    """

    tokens: Tokens
    target: Tensor
    attention: Tensor | None = None
    keys: Tensor | None = None
    text: Tensor | None = None
    partials: Mapping[str, Tensor] | None = None
    generators: tuple[torch.Generator, ...] = ()
    tower: str = ""
    has_cls: bool = False
    layer: int = 0
    point: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    reference: Tensor | None = None
    keep: float = 1.0
    layout: Layout | None = None
    layers: tuple[int, ...] = ()
    inside: bool = False
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    text_valid: Tensor | None = None
    text_keys: Tensor | None = None
    rope: Tensor | None = None
    memo: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What to do with one sequence. Special tokens are always kept, padding always dropped.

    Attributes:
        keep: [B, N] bool.
        merge_into: [B, N] long, for a token that is not kept the index of the kept token that absorbs it, -1 to
            discard it; ignored for kept tokens. None: everything not kept is discarded.
        weight: [B, N] weights of the merge; each absorbing token becomes sum(w·x) over itself and what it absorbs.
            None: the mean weighted by `Tokens.size`.
        normalise: divide by the sum of the weights (a mean). Ignored when ``weight`` is None.
        mix: [B, K, N] explicit linear map: the k-th kept token (in sequence order) becomes mix[k] @ x. Excludes
            `merge_into` as a source of features; `merge_into` then only says where a dropped token went.
        score: [B, N] what the decision was based on, higher is kept; for pictures, and from an encode point the fuse
            point gets it (`View.scores`).
        order: [B, N] non-negative sort keys: kept tokens stand in their ascending order (ties: sequence order),
            special tokens first. None: sequence order.
        memo: encode and decode points: name -> [B, ...], handed to the method's later decode points.
    """

    keep: Tensor
    merge_into: Tensor | None = None
    weight: Tensor | None = None
    normalise: bool = True
    mix: Tensor | None = None
    score: Tensor | None = None
    order: Tensor | None = None
    memo: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Fact:
    """A row of `list methods`: where a method comes from and what it needs.

    Attributes:
        substitutes: what stands in for something published that the models here lack.
    """

    year: int
    paper: str
    stages: tuple[str, ...]
    needs: tuple[str, ...] = ()
    trained: bool = False
    substitutes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pruner:
    """Base of all methods; by default it prunes nothing.

    Class attributes:
        fact: provenance and needs, for tables.
        positions: the published position policy: "keep" gives surviving tokens their original position ids,
            "renumber" contiguous ones.
        ordered: survivors stay in spatial order (False: some are moved behind others).
        stepwise: the points of a calibrated stage are measured one after another, each with those before it deciding
            (False: all at once, on the unpruned sequence).
        prefers: fusion kind of the model variant to take where a model offers several.
    """

    fact: ClassVar[Fact] = Fact(year=0, paper="", stages=())
    positions: ClassVar[Literal["keep", "renumber"]] = "keep"
    ordered: ClassVar[bool] = True
    stepwise: ClassVar[bool] = False
    prefers: ClassVar[Literal["independent", "shared"] | None] = None

    @property
    def exact(self) -> bool:
        """Whether every sample ends with exactly the budget's number of tokens (False: adaptive, on average)."""
        return True

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """Stages whose constants (`View.facts`) are measured on calibration samples, in this order; () for none.

        For each stage in turn, `core.calibrate` runs the samples with the facts fitted so far: points of earlier
        stages are decided as usual, at points of this stage `observe` is asked and nothing is pruned; then `fit`.
        """
        return ()

    @property
    def needs_calibration(self) -> bool:
        """Whether `View.facts` must be measured before the method can run."""
        return bool(self.calibration)

    def bind(self, vlm: VLM, budget: TokenBudget) -> Pruner:
        """The method that the engine asks on this model at this budget: itself, unless it must know them (plain data
        only) when it decides."""
        return self

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Where to ask; raises BudgetError or UnsupportedError when the target or the model does not fit."""
        return Points()

    def input_grid(self, vlm: VLM, budget: TokenBudget, grid: Grid) -> Grid | None:
        """The grid that the image should be shrunk to before it is encoded; None leaves it alone."""
        return None

    def encode(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        """Decide at an encode point, for all towers at once; towers left out are not pruned."""
        return {}

    def fuse(self, views: Mapping[str, View]) -> Mapping[str, Decision]:
        """Decide on projected tokens: one view per tower (independent fusion) or one "fused" view (shared)."""
        return {}

    def decode(self, view: View) -> Decision:
        """Decide before a language-model layer."""
        return Decision(keep=view.tokens.visual)

    def observe(self, view: View) -> Mapping[str, Tensor]:
        """Statistics of an unpruned view in a calibration pass: name -> [B] or [B, n].

        Rows of all batches are concatenated; where n differs, short rows are filled up with NaN.
        """
        return {}

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Facts (plain data: numbers, strings, lists, dicts) from all rows that `observe` gave for a stage."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """The hyperparameters as plain data, for records."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def keep_top(score: Tensor, k: Tensor, allowed: Tensor) -> Tensor:
    """Keep the k highest scores of each row, ties broken by the lower index.

    Args:
        score: [B, N].
        k: [B] long, how many to keep; clipped to the number of allowed tokens.
        allowed: [B, N] bool, tokens that may be chosen.

    Returns:
        [B, N] bool.
    """
    score = score.float().masked_fill(~allowed, -torch.inf)
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(score.shape[1], device=k.device).expand_as(order))
    return (rank < k[:, None]) & allowed
