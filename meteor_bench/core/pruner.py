"""The protocol between a pruning method and the engine: a method decides, the engine applies.

A method is a frozen dataclass of hyperparameters that derives from `Pruner`. It declares where it wants to be
asked (`points`) and answers with a `Decision` for each sequence it was shown. It never touches a model, never
stores a tensor, and never depends on the other rows of a batch. What a method names
(points, views, decisions) can be imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.decision import Decision, Restored
from meteor_bench.core.host import on_device, places
from meteor_bench.core.points import DecodePoint, EncodePoint, FusePoint, Points, Stage, TextRows, TowerAttention
from meteor_bench.core.rows import best
from meteor_bench.core.tokens import Grid
from meteor_bench.core.view import DecodeView, EncodeView, FuseView, Layout, View

if TYPE_CHECKING:
    from meteor_bench.core.model import VLM

__all__ = [
    "Decision",
    "DecodePoint",
    "DecodeView",
    "EncodePoint",
    "EncodeView",
    "Fact",
    "FusePoint",
    "FuseView",
    "Layout",
    "Points",
    "Pruner",
    "Restored",
    "Stage",
    "TextRows",
    "TowerAttention",
    "View",
    "keep_top",
]


@dataclass(frozen=True)
class Fact:
    """A row of `list methods`: where a method comes from and what it needs.

    Attributes:
        substitutes: what stands in, on every model, for something published that no model here has; a clause.
    """

    year: int
    paper: str
    stages: tuple[str, ...] = ()
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
        prefers: the model variant to take where a model offers several: a fusion kind, or one whose parameters were
            pruned for the method ("narrowed").
    """

    fact: ClassVar[Fact] = Fact(year=0, paper="", stages=())
    positions: ClassVar[Literal["keep", "renumber"]] = "keep"
    ordered: ClassVar[bool] = True
    stepwise: ClassVar[bool] = False
    prefers: ClassVar[Literal["independent", "shared", "narrowed"] | None] = None

    @property
    def exact(self) -> bool:
        """Whether every sample ends with exactly the budget's number of tokens (False: adaptive, on average)."""
        return True

    @property
    def draws(self) -> bool:
        """Whether what is kept depends on the run's seed: such a method is judged over several seeds."""
        return False

    @property
    def calibration(self) -> tuple[Stage, ...]:
        """Stages whose constants (`View.facts`) are measured on calibration samples, in this order; () for none.

        For each stage in turn, `engine.calibrate` runs the samples with the facts fitted so far: points of earlier
        stages are decided as usual; at points of this stage nothing is pruned and `observe_encode`, `observe_fuse` or
        `observe_decode` is asked; then `fit`.
        """
        return ()

    @property
    def needs_calibration(self) -> bool:
        """Whether `View.facts` must be measured before the method can run."""
        return bool(self.calibration)

    def substitutes(self, vlm: VLM) -> tuple[str, ...]:
        """What stands in on this model for something published that it lacks; recorded with every sample.

        What replaces a class token's attention, the engine notes by itself.
        """
        return self.fact.substitutes

    def bind(self, vlm: VLM, budget: TokenBudget) -> Pruner:
        """The method that the engine asks on this model at this budget.

        Itself, unless it must know them (plain data only) when it decides.
        """
        return self

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        """Where to ask; raises BudgetError or UnsupportedError when the target or the model does not fit."""
        return Points()

    def input_grid(self, vlm: VLM, budget: TokenBudget, grid: Grid) -> Grid | None:
        """The grid that the image should be shrunk to before it is encoded; None leaves it alone."""
        return None

    def encode(self, views: Mapping[str, EncodeView]) -> Mapping[str, Decision]:
        """Decide at an encode point, for all towers at once; towers left out are not pruned."""
        return {}

    def fuse(self, views: Mapping[str, FuseView]) -> Mapping[str, Decision]:
        """Decide on projected tokens: one view per tower (independent fusion) or one "fused" view (shared)."""
        return {}

    def decode(self, view: DecodeView) -> Decision:
        """Decide before a language-model layer."""
        return Decision(keep=view.tokens.visual)

    def observe_encode(self, view: EncodeView) -> Mapping[str, Tensor]:
        """Statistics of an unpruned view in a calibration pass: name -> [B] or [B, n].

        Rows of all batches are concatenated; where n differs, short rows are filled up with NaN.
        """
        return {}

    def observe_fuse(self, view: FuseView) -> Mapping[str, Tensor]:
        """The same at a fuse point."""
        return {}

    def observe_decode(self, view: DecodeView) -> Mapping[str, Tensor]:
        """The same at a decode point."""
        return {}

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Facts (plain data: numbers, strings, lists, dicts) from all rows that were observed at a stage.

        ``observed["requests"]`` says for each row how many of the samples share its image: encode and fuse points see
        an image once.
        """
        return {}

    def parameters(self) -> dict[str, Any]:
        """The hyperparameters as plain data, for records."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def keep_top(score: Tensor, k: Tensor, allowed: Tensor | None, order: Tensor | None = None) -> Tensor:
    """Keep the k highest scores of each row, ties broken by the lower index.

    Args:
        score: [B, N].
        k: [B] long, how many to keep; clipped to the number of allowed tokens. On the CPU, as budgets are, the host
            knows it, which spares a GPU the most work.
        allowed: [B, N] bool, tokens that may be chosen; None: all.
        order: [B, N] long, tokens by falling score, where somebody has sorted them already and all are allowed.

    Returns:
        [B, N] bool.
    """
    wanted = set(k.tolist()) if k.device.type == "cpu" else set()
    most = wanted.pop() if len(wanted) == 1 else None
    each = on_device(k, score.device) if most is None else None
    if order is None:
        return best(score, allowed, each, most or 0)
    kept = torch.zeros(score.shape, dtype=torch.bool, device=score.device)
    if each is None:
        kept.scatter_(1, order[:, : max(0, most or 0)], True)
    else:
        kept.scatter_(1, order, places(score.shape[1], score.device) < each[:, None])
    return kept if allowed is None else kept.logical_and_(allowed)
