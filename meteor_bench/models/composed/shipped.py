"""The compositions that come with the package, as rows of the model table."""

from __future__ import annotations

from pathlib import Path

from meteor_bench.core.model import ModelCard
from meteor_bench.models.composed.model import card_of
from meteor_bench.models.composed.recipe import read

__all__ = ["BASE_CPU", "CAMBRIAN_4_8B", "LADDER_X1", "LADDER_X2", "LADDER_X3", "LADDER_X4", "LADDER_X5", "METEOR_X4_7B"]

FOLDER = Path(__file__).parents[1] / "compositions"


def _shipped(name: str) -> ModelCard:
    file = FOLDER / f"{name}.yaml"
    return card_of(read(file), file.name)


METEOR_X4_7B = _shipped("meteor-x4-7b")
CAMBRIAN_4_8B = _shipped("cambrian-4-8b")
LADDER_X1 = _shipped("ladder-x1")
LADDER_X2 = _shipped("ladder-x2")
LADDER_X3 = _shipped("ladder-x3")
LADDER_X4 = _shipped("ladder-x4")
LADDER_X5 = _shipped("ladder-x5")
BASE_CPU = _shipped("base-cpu")
