"""Frames and encoders joined, against loops."""

from __future__ import annotations

import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.join import concat, join_frames
from meteor_bench.core.pruner import Decision
from meteor_bench.core.tokens import Block
from meteor_bench.core.visual_block import arrange
from tests.core.batches import batch, random_keep


def test_frames_join_in_order_with_global_origins() -> None:
    tokens = batch(rows=6, specials=0)  # 2 samples of 3 frames
    keep = random_keep(tokens, 0.5)
    joined = join_frames(apply(tokens, Decision(keep=keep)), 3)
    for b in range(2):
        expected = [f * 20 + i for f in range(3) for i in keep[b * 3 + f].nonzero()[:, 0].tolist()]
        n = len(expected)
        assert joined.origin[b, :n].tolist() == expected
        assert joined.counts()[b] == n
        source = torch.cat([tokens.x[b * 3 + f][keep[b * 3 + f]] for f in range(3)])
        assert torch.equal(joined.x[b, :n], source)


def test_concat_compacts_and_shifts() -> None:
    a, b = batch(2, 2, 3, 0), batch(2, 4, 5, 0)
    ragged = apply(a, Decision(keep=random_keep(a, 0.5)))
    out = concat([ragged, b])
    for row in range(2):
        n = int(ragged.counts()[row])
        assert out.origin[row, : n + 20].tolist() == [*ragged.origin[row, :n].tolist(), *range(6, 26)]
    assert out.grid.n == 26


def test_nothing_is_added_to_tokens_that_have_nothing_with_them() -> None:
    with_some, without = batch(2, 2, 3, 0).changed(deep=torch.ones(2, 6, 12)), batch(2, 4, 5, 0)
    deep = concat([without, with_some]).deep
    assert deep is not None and not deep[:, :20].any() and bool((deep[:, 20:] == 1).all())
    block = Block(torch.tensor([0, 1, 3, 4, 6, 7]), torch.randn(2, 6), torch.tensor([2, 5]))
    deep = arrange(with_some, block).deep
    assert deep is not None and deep[0, :, 0].tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
