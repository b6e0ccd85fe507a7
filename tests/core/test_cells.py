"""Features of every cell against loops."""

from __future__ import annotations

import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.cells import densify, on_cells
from meteor_bench.core.pruner import Decision
from tests.core.batches import batch, random_keep


def test_densify_fills_dropped_cells_with_the_nearest_survivor() -> None:
    tokens = batch(3, 4, 5, 0)
    keep = random_keep(tokens, 0.3)
    dense = densify(apply(tokens, Decision(keep=keep)))
    for b in range(3):
        kept = keep[b].nonzero()[:, 0].tolist()
        for cell in range(20):
            y, x = divmod(cell, 5)
            best = min(kept, key=lambda k: ((k // 5 - y) ** 2 + (k % 5 - x) ** 2, k))
            assert torch.equal(dense[b, cell], tokens.x[b, best])


def test_densify_gives_merged_cells_their_groups_features() -> None:
    tokens = batch(1, 2, 2, 0)
    keep = torch.tensor([[True, False, True, True]])
    merged = apply(tokens, Decision(keep=keep, merge_into=torch.tensor([[-1, 2, -1, -1]])))
    dense = densify(merged)
    assert torch.equal(dense[0, 1], dense[0, 2])
    assert torch.allclose(dense[0, 1], tokens.x[0, 1:3].mean(0))


def test_dropped_cells_have_no_value_whether_or_not_anything_merged() -> None:
    tokens = batch(2, 3, 4, 1)
    keep = random_keep(tokens, 0.5)
    left = apply(tokens, Decision(keep=keep))
    values = torch.rand(left.x.shape[:2])
    found = on_cells(left.changed(merged=False), values)
    assert torch.equal(found, on_cells(left.changed(merged=True), values))
    for b in range(2):
        for cell in range(12):
            at = (left.origin[b] == cell).nonzero()
            assert float(found[b, cell]) == (float(values[b, at[0, 0]]) if len(at) else -torch.inf)
