"""What passes between the engine and a method at a point: the engine shows a `View`, the method gives a `Decision`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid, Tokens

__all__ = ["Decision", "Layout", "View"]


@dataclass(frozen=True)
class Layout:
    """The model's shape around a view.

    Attributes:
        fusion: "independent" or "shared".
        grids: tower -> its unpruned grid per row (tower points: of a frame; fuse and decode points: of a sample).
        depths: tower -> number of blocks, 0 for an opaque tower.
        cells: shared fusion, fuse and decode points: tower -> [N] the cell of its grid that is nearest to each cell of
            the common grid, where that is no resampling of whole frames (tiles put together); others are missing.
    """

    fusion: Literal["independent", "shared"]
    grids: Mapping[str, Grid]
    depths: Mapping[str, int]
    cells: Mapping[str, Tensor] = field(default_factory=dict)


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
        windows: tower points: [B, N] long, index of the window in which most blocks of the tower see a token, -1 for
            padding; None where all see everything. A tower is fastest with equally many tokens in every window.
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
        memo: encode and decode points: what the method's decisions at earlier points left for this one
            (`Decision.memo`), all towers' together; what encode points left comes to decode points as [B, frames, ...].
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
    generators: Sequence[torch.Generator] = ()
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
    windows: Tensor | None = None
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
        memo: encode and decode points: name -> [B, ...], handed to the method's later encode and decode points.
    """

    keep: Tensor
    merge_into: Tensor | None = None
    weight: Tensor | None = None
    normalise: bool = True
    mix: Tensor | None = None
    score: Tensor | None = None
    order: Tensor | None = None
    memo: Mapping[str, Tensor] = field(default_factory=dict)
