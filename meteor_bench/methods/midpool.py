"""Pooling inside the encoder, the control of EvoPrune and ToMe: the same layers, the same counts, nothing chosen.

In a merge layer of EvoPrune's schedule (after the attention, before the MLP) r pairs of tokens that stand side by side
are averaged, the pairs spread evenly over the sequence: of the p pairs (first and second token, third and fourth, …)
those at the places floor((i + 1/2)·p/r). A method that cannot beat this gains by where it merges, not by what.

Not published as a method of its own; average pooling in the middle of the encoder is a baseline of VidCom2's authors'
port of such methods to Qwen3-VL. Schedules, shares and several encoders: see `methods.shared.merging`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from meteor_bench.core.pruner import EncodeView, Fact
from meteor_bench.methods.shared.helpers import rank_of, strided
from meteor_bench.methods.shared.merging import InsideMerger, Paired

__all__ = ["MidPool"]


@dataclass(frozen=True)
class MidPool(InsideMerger):
    """Attributes: see `InsideMerger`."""

    schedule: Literal["skip", "mean", "first", "last", "increasing", "decreasing"] = "skip"

    fact: ClassVar[Fact] = Fact(year=0, paper="control", stages=("encode",))
    title: ClassVar[str] = "midpool"

    def pair(
        self, view: EncodeView | None, x: Tensor, visual: Tensor, count: Tensor, r: Tensor, final: Tensor | None
    ) -> Paired:
        """Evenly spread pairs of neighbours in the sequence; the second joins the first."""
        place = rank_of(visual)
        second = visual & (place % 2 == 1)
        goes = strided(second, r)
        own = torch.arange(visual.shape[1], device=visual.device).expand_as(place)
        before = torch.where(visual, own, -1).cummax(1).values.roll(1, dims=1)  # the visual token before this place
        into = torch.where(goes, before, own)
        return Paired(into.masked_fill(~visual, -1), exact=True)
