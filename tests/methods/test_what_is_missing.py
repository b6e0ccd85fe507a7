"""What a model lacks is replaced, and every sample says so, or it ends with one line that names both."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.model import VLM
from meteor_bench.core.pruner import Pruner
from meteor_bench.core.registry import METHODS
from meteor_bench.engine.calibrate import calibrate
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.methods.shared.helpers import NO_CLIP_TEXT
from tests import tiny
from tests.laws.cases import shared_model, visual_of

# Two of three encoders without a class token (one of them without attention) on one grid; the same with projectors of
# their own; one encoder with a class token; one without. None has CLIP's text tower, none a trained pruner.
MODELS = (*tiny.MODELS, "bare")
CLASS_TOKEN = {"shared": ("a",), "independent": ("a",), "single": ("eye",), "bare": ()}
ONE_ENCODER = ("single", "bare")
SAID: dict[tuple[str, str], str] = {
    **{("oc-vtp", model): "needs a pruner trained for" for model in MODELS},
    **{("comp", model): "needs a model that it has pruned" for model in MODELS},
    **{("meteor", model): "fuse stage compares encoders" for model in ONE_ENCODER},
}
# The same methods once they are told to go without what is missing.
WITHOUT: dict[str, dict[str, Any]] = {
    "oc-vtp": {"weights": "random"},
    "comp": {"before": 1},
    "meteor": {"stages": ("encode", "decode")},
}
RUNS = [
    (method, options, model)
    for method in METHODS.rows
    for options in ({}, WITHOUT.get(method))
    for model in MODELS
    if options is not None and (options or (method, model) not in SAID)
]
QUICK = ("shared",)


def expected_notes(method: str, pruner: Pruner, vlm: VLM) -> set[str]:
    """What must be said of a method on a model, from what it asks for and what the model has."""
    notes = {NO_CLIP_TEXT} if method in ("cdpruner", "trim") else set()
    if method == "meteor" and vlm.name == "shared":
        notes.add(f"training-free adaptation: the encoders of '{vlm.name}' share one grid")
    if method == "comp":
        notes.add("no parameters of this model were pruned")
    if method in ("visionzip", "prunesid"):
        bare = [f"tower '{tower}'" for tower in vlm.towers if tower not in CLASS_TOKEN[vlm.name]]
        who = "a shared fusion" if vlm.name == "shared" else ", ".join(bare)
        if who:
            notes.add(f"one more patch takes the place of the class token, which {who} does not hand on")
    for point in pruner.points(vlm, TokenBudget(0.5)).encode:
        for tower in point.after:
            if vlm.towers[tower].depth == 0 and point.attention is not None:
                notes.add(f"tower '{tower}' has no attention: the method's substitute takes its place")
            elif point.attention == "cls" and tower not in CLASS_TOKEN[vlm.name]:
                notes.add(f"tower '{tower}' has no class token: mean attention received takes its attention's place")
    return notes


@pytest.mark.parametrize(
    ("method", "options", "model"),
    [pytest.param(*run, marks=() if run[2] in QUICK else pytest.mark.slow) for run in RUNS],
    ids=str,
)
@torch.inference_mode()
def test_substitutes_are_recorded(method: str, options: dict[str, Any], model: str) -> None:
    vlm, pruner, budget, asked = shared_model(model), make_pruner(method, options), TokenBudget(0.5), tiny.requests(1)
    facts = calibrate(vlm, pruner, budget, asked) if pruner.needs_calibration else {}
    visual = visual_of(Engine(vlm, pruner, budget, facts=facts), asked)
    assert set(visual.traces[0].notes) == expected_notes(method, pruner, vlm)
    assert 0 < int(visual.tokens.counts()[0])


@pytest.mark.parametrize(("method", "model"), SAID, ids=str)
def test_what_has_no_substitute_is_said_in_one_line(method: str, model: str) -> None:
    with pytest.raises(UnsupportedError, match=SAID[method, model]) as caught:
        Engine(shared_model(model), make_pruner(method), TokenBudget(0.5))
    said = str(caught.value)
    assert "\n" not in said and said.startswith(method) and f"'{model}'" in said
