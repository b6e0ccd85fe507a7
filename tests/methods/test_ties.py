"""A flat picture, in which everything ties exactly: the lower index wins, in every method that keeps tokens by rank."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.cdpruner import CDPruner
from meteor_bench.methods.comp_token import CompToken
from meteor_bench.methods.dart import Dart
from meteor_bench.methods.divprune import DivPrune
from meteor_bench.methods.fastervlm import FasterVLM
from meteor_bench.methods.fastv import FastV
from meteor_bench.methods.holov import HoloV
from meteor_bench.methods.meteor.method import Meteor
from meteor_bench.methods.pyramiddrop import PyramidDrop
from meteor_bench.methods.sparsevlm import MEMO, SparseVLM
from meteor_bench.methods.trim import Trim
from tests.methods.views import view

GRID = Grid(1, 6, 6)
WORDS = torch.ones(2, 3, dtype=torch.bool)


def flat(target: int, kind: str, **more: object) -> Any:
    """36 tokens without any difference, in a batch with a row that has some."""
    x = torch.full((2, 36, 7), 0.3)
    x[1] = torch.randn(36, 7, generator=torch.Generator().manual_seed(1))
    return view(Tokens.dense(x, GRID), target, kind=kind, keep=target / 36, **more)


@pytest.mark.parametrize("target", [1, 2, 5, 20, 35])
def test_the_first_tokens_are_kept(target: int) -> None:
    rows = torch.full((2, 36), 1 / 37)
    inner = torch.full((2, 4, 3, 36), 0.01)
    last = {"attention": inner[:, :, :1], "layers": (1, 2, 3), "point": 2}
    text = {"text": torch.full((2, 3, 7), 0.7), "text_valid": WORDS}
    keys = {"keys": torch.full((2, 36, 5), 0.1), "text_keys": torch.full((2, 3, 5), 0.1)}
    rated = {"memo": {MEMO: WORDS}, "rope": torch.ones(80), "point": 3}
    decisions = {
        "fastervlm": FasterVLM().encode({"t": flat(target, "encode", attention=rows)})["t"],
        "comp-token": CompToken().encode({"t": flat(target, "encode", attention=rows)})["t"],
        "holov, one crop": HoloV(crops=1).fuse({"t": flat(target, "fuse", scores={"t": rows})})["t"],
        "divprune": DivPrune().fuse({"t": flat(target, "fuse")})["t"],
        "cdpruner": CDPruner().fuse({"t": flat(target, "fuse", text=text["text"])})["t"],
        "trim": Trim().fuse({"t": flat(target, "fuse", text=text["text"])})["t"],
        "fastv": FastV().decode(flat(target, "decode", **last)),
        "pyramiddrop": PyramidDrop().decode(flat(target, "decode", **last)),
        "dart": Dart().decode(flat(target, "decode", **text, **keys)),
        "sparsevlm": SparseVLM(version="v2").decode(flat(target, "decode", attention=inner, **text, **rated)),
        "meteor": Meteor(stage3="fixed").decode(flat(target, "decode", attention=inner)),
    }
    for name, decision in decisions.items():
        assert decision.keep[0].nonzero()[:, 0].tolist() == list(range(target)), name


def test_sparsevlms_means_of_a_flat_picture() -> None:
    """The kept ones are the first, and the means are made of the next ones."""
    inner = torch.full((2, 4, 3, 36), 0.01)
    more = {"text": torch.ones(2, 3, 7), "text_valid": WORDS, "memo": {MEMO: WORDS}, "point": 3}
    seen = flat(30, "decode", attention=inner, **more)
    out = apply(seen.tokens, SparseVLM().decode(seen))
    assert out.origin[0].tolist() == list(range(30))
