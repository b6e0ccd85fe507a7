"""Gather, merge and bookkeeping against loops."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.join import join_frames
from meteor_bench.core.pick import rows_of
from meteor_bench.core.pruner import Decision, Restored
from tests.core.batches import batch, random_keep


def test_keeping_everything_returns_the_same_object() -> None:
    tokens = batch()
    assert apply(tokens, Decision(keep=tokens.visual)) is tokens


def test_ragged_drop_equals_boolean_indexing_row_by_row() -> None:
    tokens = batch()
    keep = random_keep(tokens, 0.4)
    out = apply(tokens, Decision(keep=keep))
    for b in range(3):
        rows = keep[b] | tokens.special[b]
        n = int(rows.sum())
        assert out.valid[b].tolist() == [i < n for i in range(out.valid.shape[1])]
        assert torch.equal(out.x[b, :n], tokens.x[b][rows])
        assert torch.equal(out.origin[b, :n], tokens.origin[b][rows])
        assert not out.x[b, n:].any()
        gone = ~keep[b][tokens.visual[b]]
        assert (out.group[b] == -1).tolist() == gone.tolist()


def test_size_weighted_merge_equals_a_loop_and_composes() -> None:
    tokens = batch(specials=0)
    for share in (0.6, 0.5):  # the second round merges tokens that already stand for several
        keep = random_keep(tokens, share)
        into = torch.full_like(tokens.origin, -1)
        for b in range(len(keep)):
            kept = keep[b].nonzero()[:, 0]
            for i in range(keep.shape[1]):
                if not keep[b, i] and tokens.valid[b, i] and i % 3:
                    into[b, i] = kept[i % len(kept)]
        before = tokens
        tokens = apply(before, Decision(keep=keep, merge_into=into))
        for b in range(len(keep)):
            for slot, i in enumerate(keep[b].nonzero()[:, 0].tolist()):
                members = [i, *[j for j in range(keep.shape[1]) if into[b, j] == i]]
                sizes = before.size[b, members].double()
                mean = (before.x[b, members].double() * sizes[:, None]).sum(0) / sizes.sum()
                assert torch.allclose(tokens.x[b, slot].double(), mean, atol=1e-6)
                assert tokens.size[b, slot] == sizes.sum()
                cells = [c for c in range(20) if before.group[b, c] in before.origin[b, members].tolist()]
                assert (tokens.group[b] == before.origin[b, i]).nonzero()[:, 0].tolist() == cells


def test_merge_leaves_untouched_tokens_bit_for_bit() -> None:
    tokens = batch(specials=0)
    keep = tokens.visual.clone()
    keep[:, 3] = False
    into = torch.full_like(tokens.origin, -1)
    into[:, 3] = 7
    out = apply(tokens, Decision(keep=keep, merge_into=into))
    rest = [i for i in range(20) if i not in (3, 7)]
    where = [i - (i > 3) for i in rest]
    assert torch.equal(out.x[:, where], tokens.x[:, rest])


def test_weighted_sum_without_normalisation() -> None:
    tokens = batch(rows=1, specials=0)
    keep = torch.zeros_like(tokens.valid)
    keep[0, 2] = True
    into = torch.full_like(tokens.origin, 2)
    weight = torch.rand(1, 20)
    out = apply(tokens, Decision(keep=keep, merge_into=into, weight=weight, normalise=False))
    assert torch.allclose(out.x[0, 0], (weight[0, :, None] * tokens.x[0]).sum(0), atol=1e-5)


def test_mix_is_an_explicit_linear_map_that_spares_specials() -> None:
    tokens = batch(rows=2)
    keep = torch.zeros_like(tokens.valid)
    keep[:, [4, 9]] = True
    mix = torch.randn(2, 2, 21)
    out = apply(tokens, Decision(keep=keep, mix=mix))
    assert torch.equal(out.x[:, 0], tokens.x[:, 0])
    assert torch.allclose(out.x[:, 1:], mix @ tokens.x, atol=1e-5)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", ["size", "weight", "mix"])
def test_rows_that_keep_equally_many_are_made_where_they_stand(kind: str, ordered: bool) -> None:
    """Twice, so that the second decision is about tokens that have merged; some end nowhere."""
    tokens = batch(rows=2, specials=0)
    for left in (9, 4):
        n = tokens.x.shape[1]
        keep = torch.zeros(2, n, dtype=torch.bool)
        for b in range(2):
            keep[b, torch.randperm(n)[:left]] = True
        kept = [row.nonzero()[:, 0].tolist() for row in keep]
        into = torch.tensor([[-1 if i % 4 == 0 else kept[b][i % left] for i in range(n)] for b in range(2)])
        weight, mix = torch.rand(2, n) + 0.1, torch.randn(2, left, n)
        order = torch.randint(0, 3, (2, n)) if ordered else None
        of_kind = {"size": {}, "weight": {"weight": weight}, "mix": {"mix": mix}}[kind]
        out = apply(tokens, Decision(keep=keep, merge_into=into, order=order, **of_kind))
        for b in range(2):
            turn = sorted(kept[b], key=lambda i: (0 if order is None else int(order[b, i]), i))
            for place, i in enumerate(turn):
                members = [i, *[j for j in range(n) if not keep[b, j] and into[b, j] == i]]
                part = {"size": tokens.size[b], "weight": weight[b]}.get(kind, weight[b])[members].double()
                want = (tokens.x[b, members].double() * part[:, None]).sum(0) / part.sum()
                if kind == "mix":
                    want = (mix[b, kept[b].index(i)].double()[:, None] * tokens.x[b].double()).sum(0)
                assert torch.allclose(out.x[b, place].double(), want, atol=1e-5)
                assert out.origin[b, place] == tokens.origin[b, i]
                assert out.size[b, place] == tokens.size[b, members].sum()
                cells = [c for c in range(20) if tokens.group[b, c] in tokens.origin[b, members].tolist()]
                assert (out.group[b] == tokens.origin[b, i]).nonzero()[:, 0].tolist() == cells
        tokens = out


@pytest.mark.parametrize("kind", ["drop", "mean", "sum", "weighted", "mix", "order"])
def test_what_goes_with_a_token_is_treated_as_if_it_were_part_of_it(kind: str) -> None:
    tokens = batch(specials=0 if kind == "sum" else 1)
    n = tokens.x.shape[1]
    keep = random_keep(tokens, 0.4)
    into = keep.to(torch.uint8).argmax(1, keepdim=True).expand(-1, n)
    weight = torch.rand(3, n)
    decision = {
        "drop": Decision(keep=keep),
        "mean": Decision(keep=keep, merge_into=into),
        "sum": Decision(keep=keep, merge_into=into, weight=weight, normalise=False),
        "weighted": Decision(keep=keep, merge_into=into, weight=weight, normalise=True),
        "mix": Decision(keep=keep, mix=torch.randn(3, int(keep.sum(1).max()), n)),
        "order": Decision(keep=keep, order=torch.rand(3, n)),
    }[kind]
    deep = torch.randn(3, n, 12)
    both = join_frames(apply(tokens.changed(x=torch.cat([tokens.x, deep], 2)), decision), 3)
    out = join_frames(apply(tokens.changed(deep=deep), decision), 3)
    assert out.deep is not None and both.deep is None
    assert torch.allclose(torch.cat([out.x, out.deep], 2), both.x, atol=1e-5)
    again = rows_of(out, torch.tensor([0, 0]))
    assert again.deep is not None and torch.equal(again.deep[1], out.deep[0])


def test_an_order_moves_kept_tokens_and_leaves_special_ones_first() -> None:
    tokens = batch()
    keep = random_keep(tokens, 0.5)
    order = torch.randint(0, 3, keep.shape)
    out = apply(tokens, Decision(keep=keep, order=order))
    for b in range(3):
        want = sorted(keep[b].nonzero()[:, 0].tolist(), key=lambda i: (int(order[b, i]), i))
        assert torch.equal(out.x[b][out.valid[b]], tokens.x[b, [0, *want]])
        assert out.origin[b][out.valid[b]].tolist() == [-1, *tokens.origin[b, want].tolist()]
        assert out.special[b].tolist() == [True] + [False] * (out.x.shape[1] - 1)
        assert torch.equal(out.group[b] >= 0, keep[b, 1:])
    same = Decision(keep=tokens.visual, order=torch.arange(21).flip(0).expand(3, -1))
    assert torch.equal(apply(tokens, same).x[:, 1:], tokens.x[:, 1:].flip(1))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("merged", [True, False])
def test_what_comes_back_stands_in_its_place_again(merged: bool, told: bool) -> None:
    tokens = batch().changed(deep=torch.randn(3, 21, 4))
    keep = random_keep(tokens, 0.4)
    into = torch.where(torch.rand(keep.shape) < 0.3, keep.long().argmax(1, keepdim=True).expand_as(keep), -1)
    fewer = apply(tokens, Decision(keep=keep, merge_into=into if merged else None))
    gone = fewer.group < 0
    cells = gone & (torch.rand(gone.shape) < 0.6)
    assert cells.any() and (gone & ~cells).any() and len(set(cells.sum(1).tolist())) > 1
    x, deep = torch.randn(3, 20, 6), torch.randn(3, 20, 4)
    out = apply(fewer, Decision(keep=fewer.visual, restored=Restored(cells, x, deep, cells.sum(1) if told else None)))
    assert out.raster and out.host == tuple(map(tuple, zip(out.visual.sum(1).tolist(), [1] * 3, strict=True)))
    assert torch.equal(out.group, torch.where(cells, torch.arange(20), fewer.group))
    for b in range(3):
        there = {int(o): i for i, o in enumerate(fewer.origin[b].tolist()) if fewer.visual[b, i]}
        want = sorted({*there, *cells[b].nonzero()[:, 0].tolist()})
        assert out.origin[b][out.visual[b]].tolist() == want
        assert torch.equal(out.x[b, 0], tokens.x[b, 0]) and bool(out.special[b, 0])
        for place, cell in enumerate(want, 1):
            old = there.get(cell)
            assert out.deep is not None and fewer.deep is not None
            assert torch.equal(out.x[b, place], x[b, cell] if old is None else fewer.x[b, old])
            assert torch.equal(out.deep[b, place], deep[b, cell] if old is None else fewer.deep[b, old])
            assert out.size[b, place] == (1 if old is None else fewer.size[b, old])
        assert not out.x[b, len(want) + 1 :].any()
