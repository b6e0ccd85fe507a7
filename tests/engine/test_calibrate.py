"""What a calibration pass hands to `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import DecodePoint, FusePoint, Points, Pruner, Stage, View
from meteor_bench.engine.calibrate import calibrate
from tests import tiny
from tests.laws.cases import shared_model


@dataclass(frozen=True)
class Counting(Pruner):
    """Gives what it was shown as its facts."""

    calibration: tuple[Stage, ...] = ("fuse", "decode")  # type: ignore[assignment,misc]

    def points(self, vlm: VLM, budget: TokenBudget) -> Points:
        return Points(fuse=FusePoint(), decode=(DecodePoint(before=1),))

    def observe_fuse(self, view: View) -> Mapping[str, Tensor]:
        return {"first": view.tokens.x[:, 0, 0], "count": view.tokens.counts()}

    observe_decode = observe_fuse

    def fit(self, stage: Stage, observed: Mapping[str, Tensor]) -> Mapping[str, Any]:
        return {stage: {name: values.tolist() for name, values in observed.items()}}


def test_an_image_is_seen_once_and_says_how_many_ask_about_it() -> None:
    asked = tiny.requests(4)  # two about each of two images
    asked[2] = replace(asked[2], media_key=asked[0].media_key, media=asked[0].media)
    facts = calibrate(shared_model("shared"), Counting(), TokenBudget(0.5), asked)
    assert facts["fuse"]["requests"] == [3, 1] and facts["fuse"]["count"] == [64, 64]
    assert len(set(facts["fuse"]["first"])) == 2
    assert facts["decode"]["requests"] == [1] * 4 and len(facts["decode"]["count"]) == 4
    assert torch.is_inference_mode_enabled() is False
