"""The models of the laws are alive: otherwise the laws would hold for any engine."""

from __future__ import annotations

import pytest

from meteor_bench.engine.generate import answer
from tests import tiny
from tests.laws.cases import (
    ALL,
    Case,
    engine,
    generate,
    visual_of,
)

pytestmark = pytest.mark.usefixtures("inference")


def test_answers_do_depend_on_the_image_and_on_pruning() -> None:
    for name in tiny.MODELS:
        asked = tiny.requests(4)
        dense = generate(engine(Case("none", name), 1.0), asked)
        pruned = generate(engine(Case("random", name), 0.1), asked)
        assert len({g.ids for g in dense}) > 1
        assert [g.ids for g in dense] != [g.ids for g in pruned]


def test_padded_batches_really_occur() -> None:
    """Law 2 sees ragged towers and ragged visual sequences."""
    ragged = next(c for c in ALL if c.method == "evoprune" and c.model == "independent")
    seen: list[bool] = []
    pruning = engine(ragged, 0.24, frames=3, observer=lambda view: bool(seen.append(view.tokens.padded)))
    visual = visual_of(pruning, tiny.requests(2, 3))
    assert any(seen)
    adaptive = Case("meteor", "independent")
    pruning = engine(adaptive, 0.24)
    visual = visual_of(pruning, tiny.requests(4))
    out = answer(pruning, visual, range(4), tiny.prompts(pruning.vlm, tiny.requests(4)), 1)
    assert len({g.trace.final for g in out}) > 1
