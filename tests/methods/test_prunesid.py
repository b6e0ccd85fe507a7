"""PruneSID against plain loops in float64."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.prunesid import PruneSID, places, survivors
from tests import tiny
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 8, 8)


def suppressed(cos: np.ndarray, order: list[int], group: list[int], threshold: float) -> set[int]:
    """Plain non-maximum suppression: who is left."""
    alive: list[int] = []
    for i in order:
        if not any(group[j] == group[i] and cos[i, j] > threshold for j in alive):
            alive.append(i)
    return set(alive)


def shared_out(total: int, sizes: list[int], alive: list[int], others: int = 0) -> list[int]:
    """The rule for places, in fractions: one for each group that holds a token, the rest in proportion to survivors.

    Of the total, ``others`` are no patches; caps do not know of that.
    """
    labels = range(len(sizes))
    by_survivors = sorted((g for g in labels if sizes[g]), key=lambda g: (-alive[g], g))
    patches = total - others
    first = [int(g in by_survivors[:patches]) for g in labels]
    rest = patches - sum(first)
    ends = [round(Fraction(rest * sum(alive[: g + 1]), sum(alive))) for g in labels]  # of the running sum
    raised = 0
    while True:  # the caps, raised until they hold all
        caps = [min(min(5 * math.ceil(total / 64), max(alive[g], 1)) + raised, sizes[g]) for g in labels]
        if sum(caps) >= total:
            break
        raised += 1
    given = [min(first[g] + ends[g] - (ends[g - 1] if g else 0), caps[g]) for g in labels]
    for g in by_survivors:  # what the caps took away
        given[g] += min(caps[g] - given[g], patches - sum(given))
    assert sum(given) == patches
    return given


def reference(x: Tensor, attention: list[float], total: int, others: int) -> list[int]:
    """Places of the patches that stay, group by group."""
    n = len(x)
    data = torch.sigmoid(x).numpy().T  # channels are samples
    data = data - data.mean(0)
    _, _, components = np.linalg.svd(data, full_matrices=True)
    group = np.abs(components[: max(1, total // 4)]).argmax(0).tolist()
    units = (x / x.norm(dim=1, keepdim=True)).numpy()
    cos = units @ units.T
    threshold = total / 32 * float(np.mean([cos[i, j] for i in range(n) for j in range(n) if i != j]))
    order = sorted(range(n), key=lambda i: (-attention[i], i))
    alive = suppressed(cos, order, group, threshold)
    labels = range(max(group) + 1)
    sizes = [group.count(g) for g in labels]
    share = shared_out(total, sizes, [sum(group[i] == g for i in alive) for g in labels], others)
    kept: list[int] = []
    for g in labels:
        mine = [i for i in order if group[i] == g]
        kept += sorted(mine, key=lambda i: (i not in alive, order.index(i)))[: share[g]]
    return kept


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("cls", [True, False])
@pytest.mark.parametrize("target", [1, 5, 12, 20, 40])
def test_the_class_token_then_the_patches_of_each_group(target: int, cls: bool, holes: bool) -> None:
    counts = [64, 45] if holes else [64, 64]
    tokens = ragged(counts, GRID, dim=24, cls=cls, seed=target)
    seen = view(tokens, target, has_cls=cls)
    out = apply(tokens, PruneSID().encode({"t": seen})["t"])
    spatial = apply(tokens, PruneSID(order="spatial").encode({"t": seen})["t"])
    for b in range(2):
        at = visual_indices(tokens, b)
        attention = seen.attention[b, at].tolist()
        want = reference(tokens.x[b, at].double(), attention, target, int(cls))
        x = [tokens.x[b, at[p]] for p in want]
        head = max(
            set(range(len(at))) - set(want), key=lambda p: attention[p]
        )  # stands for the class token in pictures
        stand = [head, *want] if cls else want
        assert len(stand) == target
        assert torch.equal(out.x[b][out.visual[b]], torch.stack([tokens.x[b, 0], *x] if cls else x))
        assert out.origin[b][out.visual[b]].tolist() == tokens.origin[b, at][stand].tolist()
        assert spatial.origin[b][spatial.visual[b]].tolist() == sorted(tokens.origin[b, at][stand].tolist())


def test_nothing_is_replaced_or_moved_where_everything_stays() -> None:
    tokens = ragged([64, 20], GRID, dim=24, cls=True)
    out = apply(tokens, PruneSID().encode({"t": view(tokens, [20, 20], has_cls=True)})["t"])
    assert torch.equal(out.x[1][out.visual[1]], tokens.x[1, 1:21])
    assert torch.equal(out.x[0, 1], tokens.x[0, 0]) and int(out.visual[0].sum()) == 20


def test_what_takes_the_class_tokens_place_is_recorded() -> None:
    assert PruneSID().substitutes(tiny.build("single")) == ()
    (said,) = PruneSID().substitutes(tiny.build("bare"))
    assert said == "one more patch takes the place of the class token, which tower 'eye' does not hand on"


def test_rounds_of_suppression_end_where_a_walk_through_the_ranks_does() -> None:
    g = torch.Generator().manual_seed(1)
    for _ in range(20):
        n = 30
        cos = torch.rand(n, n, generator=g, dtype=torch.float64)
        cos = (cos + cos.T) / 2
        rank = torch.randperm(n, generator=g)
        group = torch.randint(0, 3, (n,), generator=g)
        order = rank.argsort().tolist()
        want = suppressed(cos.numpy(), order, group.tolist(), 0.6)
        alive = survivors(cos, rank, group, torch.tensor(0.6, dtype=torch.float64))
        assert set(alive.nonzero().flatten().tolist()) == want


def test_halves_are_rounded_as_fractions_say() -> None:
    """3 places for 72 survivors, 36 before the largest group: one and a half, of which a float sum falls short."""
    alive = [1, 5, 1, 1, 1, 4, 1, 9, 0, 1, 3, 2, 1, 4, 0, 2, 30, 2, 4, 0]
    sizes = [1, 9, 3, 1, 9, 5, 1, 12, 0, 1, 5, 2, 2, 6, 0, 6, 55, 7, 32, 0]
    assert places(21, sizes, alive) == shared_out(21, sizes, alive)
    assert places(21, sizes, alive)[16] == 3


def test_places_are_all_given_and_nobody_gets_more_than_it_has() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(0, 40, rng.integers(1, 20)).tolist()
        if sum(sizes) == 0:
            continue
        alive = [int(rng.integers(1, s + 1)) if s else 0 for s in sizes]
        total = int(rng.integers(1, sum(sizes) + 1))
        share = places(total, sizes, alive)
        assert share == shared_out(total, sizes, alive)
        assert places(total, sizes, alive, 1) == shared_out(total, sizes, alive, 1)
        assert sum(share) == total and all(0 <= k <= s for k, s in zip(share, sizes, strict=True))
        if total >= sum(s > 0 for s in sizes):
            assert all(k >= 1 for k, s in zip(share, sizes, strict=True) if s)
        cap = 5 * math.ceil(total / 64)
        if sum(min(cap, s, max(a, 1)) for s, a in zip(sizes, alive, strict=True)) >= total:
            assert max(share) <= cap
