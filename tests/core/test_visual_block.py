"""Newlines and separators between visual tokens: where they stand, what pruning does to them."""

from __future__ import annotations

import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.pruner import Decision
from meteor_bench.core.tokens import Block, Grid, Tokens
from meteor_bench.core.visual_block import arrange, split, with_specials
from meteor_bench.engine.sequence import Stream

# Two rows of three cells, a newline after each: slots 0 1 2 | 3 | 4 5 6 | 7.
CELLS, NEWLINES = [0, 1, 2, 4, 5, 6], [3, 7]


def _block(**more: object) -> Block:
    special = torch.tensor([[100.0], [200.0]])
    return Block(torch.tensor(CELLS), special, torch.tensor(NEWLINES), **more)  # type: ignore[arg-type]


def _tokens(rows: int = 1) -> Tokens:
    return Tokens.dense(torch.arange(6.0)[None, :, None].expand(rows, -1, -1), Grid(1, 2, 3))


def _keep(*cells: list[int]) -> Decision:
    return Decision(keep=torch.tensor([[i in own for i in range(6)] for own in cells]))


def test_special_tokens_stand_in_their_slots() -> None:
    out = arrange(_tokens(), _block())
    assert out.x[0, :, 0].tolist() == [0, 1, 2, 100, 3, 4, 5, 200]
    assert out.slot is not None and out.slot[0].tolist() == list(range(8))
    assert out.special[0].tolist() == [False] * 3 + [True] + [False] * 3 + [True]
    assert out.counts().tolist() == [6] and out.origin[0].tolist() == [0, 1, 2, -1, 3, 4, 5, -1]


def test_they_stay_when_their_row_is_gone_and_rows_may_be_ragged() -> None:
    kept = apply(_tokens(2), _keep([4], [0, 1, 5]))
    out = arrange(kept, _block())
    assert out.x[0, :, 0].tolist() == [100, 4, 200, 0, 0] and out.valid[0].tolist() == [True] * 3 + [False] * 2
    assert out.x[1, :, 0].tolist() == [0, 1, 100, 5, 200]


def test_a_decision_in_the_language_model_sees_visual_tokens_only() -> None:
    index, visual, special = split(arrange(_tokens(2), _block()))
    assert index.tolist() == [CELLS] * 2 and not bool(visual.special.any()) and visual.x.shape[1] == 6
    out = with_specials(apply(visual, _keep([0, 3], [2])), special)
    assert out.x[0, :, 0].tolist() == [0, 100, 3, 200] and out.x[1, :3, 0].tolist() == [2, 100, 200]


def test_a_token_moved_behind_others_stays_there() -> None:
    _, visual, special = split(arrange(_tokens(), _block()))
    order = torch.tensor([[9, 1, 2, 3, 4, 5]])  # the first cell behind all others
    moved = apply(visual, Decision(keep=torch.tensor([[True, True, False, False, True, False]]), order=order))
    assert with_specials(moved, special).x[0, :, 0].tolist() == [1, 100, 4, 0, 200]


def test_nothing_left_leaves_the_frame() -> None:
    _, visual, special = split(arrange(_tokens(), _block()))
    assert with_specials(apply(visual, _keep([])), special).x[0, :, 0].tolist() == [100, 200]


def _stream(tokens: Tokens, block: Block, policy: str) -> Stream:
    text = torch.zeros(1, 2, 1)
    length = block.span or block.length
    return Stream(
        torch.zeros(1, 3, 1), tokens, text, torch.ones(1, 2, dtype=torch.bool), length, policy, block.positions
    )


def test_positions_of_survivors_and_of_what_follows() -> None:
    block = _block()
    kept = arrange(apply(_tokens(), _keep([1, 5])), block)  # slots 1 3 6 7
    keep, renumber = (_stream(kept, block, policy) for policy in ("keep", "renumber"))
    assert keep.positions()[0].tolist() == [0, 1, 2, 4, 6, 9, 10, 11, 12]
    assert keep.following().tolist() == [13]
    assert renumber.positions()[0].tolist() == list(range(9)) and renumber.following().tolist() == [9]


def test_positions_on_several_axes() -> None:
    axes = torch.stack([torch.zeros(8, dtype=torch.long), torch.arange(8) // 4, torch.arange(8) % 4], 1)
    block = _block(positions=axes, span=4)
    kept = arrange(apply(_tokens(), _keep([1, 5])), block)
    keep, renumber = (_stream(kept, block, policy) for policy in ("keep", "renumber"))
    want = [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 4], [3, 3, 6], [3, 4, 5], [3, 4, 6], [7, 7, 7], [8, 8, 8]]
    assert keep.positions()[0].tolist() == want and keep.following().tolist() == [9]
    assert renumber.positions()[0].tolist() == [[i] * 3 for i in range(9)]
