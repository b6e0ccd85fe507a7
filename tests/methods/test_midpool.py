"""midpool: EvoPrune's counts, and nothing chosen."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.tokens import Grid
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.methods.midpool import MidPool
from tests import tiny
from tests.methods.views import ragged


@pytest.mark.parametrize("counts", [[12, 12], [12, 7, 2]])
def test_evenly_spread_neighbours_are_joined(counts: list[int]) -> None:
    tokens = ragged(counts, Grid(1, 3, 4), cls=True)
    for r in range(max(counts) // 2 + 1):
        removed = torch.tensor([min(r, n // 2) for n in counts])
        into = MidPool().pair(None, tokens.x, tokens.visual, torch.tensor(counts), removed, None).into
        for b, count in enumerate(counts):
            pairs, gone = count // 2, int(removed[b])
            joined = {int((i + 0.5) * pairs / gone) for i in range(gone)}  # 1 for the class token
            want = [i - 1 if i % 2 and i // 2 in joined else i for i in range(count)]
            assert into[b, 1 : 1 + count].tolist() == [1 + i for i in want]
            assert set(into[b, 1 + count :].tolist()) | {int(into[b, 0])} == {-1}


def test_its_layers_are_those_of_evoprune() -> None:
    vlm, budget = tiny.build("shared"), TokenBudget(0.25)
    ours, theirs = (make_pruner(name).points(vlm, budget).encode for name in ("midpool", "evoprune"))
    assert [p.after for p in ours] == [p.after for p in theirs]
