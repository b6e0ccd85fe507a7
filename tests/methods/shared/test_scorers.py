"""The bases of scoring methods: what a score has to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from meteor_bench import DecodeScorer, EncodeScorer, FuseScorer
from meteor_bench.core.errors import PluginError
from meteor_bench.core.registry import METHODS
from meteor_bench.core.tokens import Grid
from tests.methods.views import ragged, view

WRONG = [
    (None, r"gave a NoneType; expected a tensor \[B, N\] = \[2, 9\]"),
    ([0.5], "gave a list; expected"),
    (torch.zeros(9), r"gave a tensor \[9\]; expected a tensor \[B, N\] = \[2, 9\]"),
    (torch.zeros(2, 9, 1), r"gave a tensor \[2, 9, 1\]; expected"),
]
TOKENS = ragged([9, 7], Grid(1, 3, 3))


@pytest.mark.parametrize(("score", "said"), WRONG)
def test_a_score_that_is_none_is_told_with_the_methods_name(score: Any, said: str) -> None:
    class Mine(FuseScorer):
        def score(self, view: Any) -> Any:
            return score

    class Inner(DecodeScorer):
        def score(self, view: Any) -> Any:
            return score

    class Outer(EncodeScorer):
        def score(self, view: Any) -> Any:
            return score

    asked = {
        "Mine": lambda: Mine().fuse({"t": view(TOKENS, 4, kind="fuse")}),
        "Inner": lambda: Inner().decode(view(TOKENS, 4, kind="decode")),
        "Outer": lambda: Outer().encode({"t": view(TOKENS, 4)}),
    }
    for name, ask in asked.items():
        with pytest.raises(PluginError, match=rf"{name}\.score {said}"):
            ask()


def test_the_highest_scores_stay_and_ties_go_to_the_lower_index() -> None:
    class Mine(FuseScorer):
        def score(self, view: Any) -> torch.Tensor:
            return torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0, 9.0, 2.0, 2.0, 2.0]]).expand(2, -1)

    keep = Mine().fuse({"t": view(TOKENS, 4, kind="fuse")})["t"].keep
    assert keep[0].nonzero()[:, 0].tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("name", METHODS.rows)
def test_errors_call_a_method_what_users_call_it(name: str) -> None:
    title = getattr(METHODS.load(name), "title", name)
    assert title == name
