"""Masks of choices: rows that want nothing, everything or something, and groups that get different numbers."""

from __future__ import annotations

import torch

from meteor_bench.methods.shared.picks import best_of_groups, picked, to_search


def test_each_row_has_the_picks_that_it_wanted() -> None:
    allowed = torch.tensor([[True] * 4] * 4 + [[False, True, True, False]])
    steps, whole = to_search(torch.tensor([0, 1, 2, 9, 5]), torch.tensor([4, 4, 4, 4, 2]))
    assert steps.tolist() == [0, 1, 2, 0, 0] and whole.tolist() == [False, False, False, True, True]
    found = [torch.tensor([[2], [3], [1], [0], [0]]), torch.tensor([[0], [1], [3], [1], [3]])]
    keep = picked(found, torch.arange(2) < steps[:, None], whole, allowed)
    kept = [row.nonzero().flatten().tolist() for row in keep]
    assert kept == [[], [3], [1, 3], [0, 1, 2, 3], [1, 2]]


def test_without_a_search_rows_have_nothing_or_everything() -> None:
    allowed = torch.tensor([[True, False, True]] * 2)
    steps, whole = to_search(torch.tensor([0, 2]), torch.tensor([2, 2]))
    keep = picked([], torch.arange(0) < steps[:, None], whole, allowed)
    assert keep.tolist() == [[False] * 3, [True, False, True]]


def test_every_group_keeps_its_best() -> None:
    g = torch.Generator().manual_seed(0)
    score, group = torch.randint(0, 5, (3, 20), generator=g).float(), torch.randint(0, 4, (3, 20), generator=g)
    given = torch.tensor([[2, 0, 3], [1, 1, 1], [0, 30, 2]])  # group 3 is in none
    keep = best_of_groups(score, group, given)
    for b in range(3):
        want: set[int] = set()
        for label in range(3):
            mine = [i for i in range(20) if group[b, i] == label]
            want |= set(sorted(mine, key=lambda i, b=b: (-float(score[b, i]), i))[: given[b, label]])  # type: ignore[misc]
        assert set(keep[b].nonzero().flatten().tolist()) == want
