"""Greedy cover: rows that want nothing, everything, or something, side by side."""

from __future__ import annotations

import torch

from meteor_bench.methods.shared.coverage import cover


def test_a_row_gets_what_it_wants_whatever_the_others_do() -> None:
    g = torch.Generator().manual_seed(0)
    value = torch.rand(4, 6, 5, generator=g)
    allowed = torch.ones(4, 5, dtype=torch.bool)
    allowed[3, 3:] = False
    count = allowed.sum(1)
    wanted = torch.tensor([0, 2, 5, 9])
    keep = cover(value, None, wanted, allowed, count)
    assert keep.sum(1).tolist() == [0, 2, 5, 3] and not bool((keep & ~allowed).any())
    for b in range(4):
        alone = cover(value[b : b + 1], None, wanted[b : b + 1], allowed[b : b + 1], count[b : b + 1])
        assert torch.equal(alone[0], keep[b])


def test_no_pair_covers_more_than_the_greedy_one_and_a_third() -> None:
    """The bound of submodular functions, 1 - 1/e, against all pairs."""
    value = torch.rand(1, 8, 7, generator=torch.Generator().manual_seed(1))
    keep = cover(value, None, torch.tensor([2]), torch.ones(1, 7, dtype=torch.bool), torch.tensor([7]))[0]
    best = max(float(value[0][:, [i, j]].amax(1).sum()) for i in range(7) for j in range(i))
    assert float(value[0][:, keep].amax(1).sum()) >= (1 - 1 / 2.718281828) * best
