"""Features of every cell against loops."""

from __future__ import annotations

import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.cells import densify
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
