"""Windowed encoders on what pruning left, against plain loops over windows, heads and places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.attention_probe import Probe
from meteor_bench.core.pick import pick, rows_of
from meteor_bench.core.pruner import Decision
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.meteor.stages import keep_in_windows
from meteor_bench.models.windows import Windows, window_of
from tests import eagle, eagle_plain


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def pruned(tower: Any, keep: Tensor) -> Tokens:
    """Random tokens of a tower's width, of which some were dropped."""
    x = torch.randn(*keep.shape, tower.width, generator=torch.Generator().manual_seed(3))
    return apply(Tokens.dense(x, tower.grid(*eagle.build().native)), Decision(keep=keep))


def some(rows: int, cells: int, share: float) -> Tensor:
    return torch.rand(rows, cells, generator=torch.Generator().manual_seed(7)) < share


def sam_window(attn: Any, h: Tensor, cells: list[tuple[int, int]], side: int) -> Tensor:
    """[S, D] normed members of one window at their (row, column), with relative positions, head by head."""
    heads, n = attn.num_attention_heads, len(cells)
    q, k, v = (part.reshape(n, heads, -1) for part in attn.qkv(h).chunk(3, 1))
    out = torch.empty_like(v)
    for head in range(heads):
        score = torch.empty(n, n)
        for i, (row, column) in enumerate(cells):
            for j, (r, c) in enumerate(cells):
                score[i, j] = q[i, head] @ k[j, head] * attn.scale
                score[i, j] += q[i, head] @ (attn.rel_pos_h[row - r + side - 1] + attn.rel_pos_w[column - c + side - 1])
        out[:, head] = score.softmax(-1) @ v[:, head]
    return attn.proj(out.flatten(1))  # type: ignore[no-any-return]


def in_windows(tokens: Tokens, row: int, side: int, whole: int) -> dict[int, list[int]]:
    """Window -> slots of its tokens, worked out cell by cell."""
    across = -(-whole // side)
    found: dict[int, list[int]] = {}
    for slot in range(tokens.x.shape[1]):
        if tokens.valid[row, slot]:
            y, x = divmod(int(tokens.origin[row, slot]), whole)
            found.setdefault(y // side * across + x // side, []).append(slot)
    return found


@pytest.mark.parametrize("share", [pytest.param(0.6, marks=pytest.mark.slow), 0.1])
def test_sams_windows_hold_what_is_left_and_their_own_padding(share: float) -> None:
    tower: Any = eagle.build().towers["sam"]
    tokens = pruned(tower, some(2, 256, share))
    found = tower.attend(0, tokens.x, None, None, tower.where(tokens))
    layer, side, whole = tower.model.layers[0], 6, 16
    for row in range(2):
        members = in_windows(tokens, row, side, whole)
        width = max(map(len, members.values()))
        for window, slots in members.items():
            top, left = window // 3 * side, window % 3 * side
            cells = [divmod(int(tokens.origin[row, s]), whole) for s in slots]
            behind = [(y, x) for y in range(top, top + side) for x in range(left, left + side) if max(y, x) >= whole]
            behind = behind[: width - len(slots)]
            h = torch.cat([layer.layer_norm1(tokens.x[row, slots]), torch.zeros(len(behind), tower.width)])
            places = [(y - top, x - left) for y, x in [*cells, *behind]]
            want = tokens.x[row, slots] + sam_window(layer.attn, h, places, side)[: len(slots)]
            assert torch.allclose(found[row, slots], want, atol=1e-4)


def test_sams_open_blocks_keep_positions_on_the_grid() -> None:
    tower: Any = eagle.build().towers["sam"]
    tokens = pruned(tower, some(1, 256, 0.15))
    found = tower.attend(1, tokens.x, None, None, tower.where(tokens))
    layer = tower.model.layers[1]
    cells = [divmod(int(o), 16) for o in tokens.origin[0]]
    want = tokens.x[0] + sam_window(layer.attn, layer.layer_norm1(tokens.x[0]), cells, 16)
    assert torch.allclose(found[0], want, atol=1e-4)


@pytest.mark.parametrize(("block", "side"), [(0, 4), (1, 16)])
def test_evas_rotations_follow_the_origins(block: int, side: int) -> None:
    tower: Any = eagle.build().towers["det"]
    plain: Any = eagle_plain.plain().vision[eagle_plain.X5.index("det-1024")]
    tokens = pruned(tower, some(2, 256, 0.4))
    mask = None if not tokens.padded else tokens.valid[:, None, None].expand(-1, 1, tokens.x.shape[1], -1)
    found = tower.attend(block, tokens.x, mask, None, tower.where(tokens))
    own = plain.blocks[block]
    for row in range(2):
        for window, slots in in_windows(tokens, row, side, 16).items():
            corner = torch.tensor(divmod(window, 16 // side)) * side
            at = torch.tensor([divmod(int(tokens.origin[row, s]), 16) for s in slots]) - corner
            x = tokens.x[row, slots]
            want = x + plain.attention(own.attn, own.norm1(x), at.float() / side * plain.trained)
            assert torch.allclose(found[row, slots], want, atol=1e-4)


def test_equally_many_tokens_need_no_mask_and_no_padding() -> None:
    grid = Grid(1, 8, 8)
    tokens = Tokens.dense(torch.randn(2, 64, 4), grid)
    window, counts = window_of(tokens.origin, grid, 4), torch.full((2, 4), 16)
    keep, left = keep_in_windows(torch.randn(2, 64), torch.tensor([20, 33]), window, tokens.visual, counts)
    assert left.tolist() == [[5] * 4, [8] * 4]
    assert keep.sum(1).tolist() == [20, 32]
    for row in range(2):
        left = apply(Tokens.dense(torch.randn(1, 64, 4), grid), Decision(keep=keep[row : row + 1]))
        windows = Windows.of(left, 4)
        assert windows.solid and windows.mask is None and windows.widths == (int(keep[row].sum()) // 4,)


def test_the_best_of_each_window_stay() -> None:
    window = torch.tensor([[0, 0, 1, 1, 1, 2]])
    score = torch.tensor([[0.1, 0.9, 0.5, 0.5, 0.7, 0.0]])
    allowed = torch.ones(1, 6, dtype=torch.bool)

    def kept(k: int) -> list[int]:
        counts = torch.tensor([[2, 3, 1]])
        keep: list[int] = keep_in_windows(score, torch.tensor([k]), window, allowed, counts).keep[0].nonzero().tolist()
        return [place for (place,) in keep]

    assert kept(1) == kept(3) == [1, 4, 5]  # one of each at least
    assert kept(5) == [0, 1, 2, 4, 5]
    assert kept(4) == [1, 4, 5]  # two of each would be five
    assert kept(6) == list(range(6))


@pytest.mark.parametrize("name", ["sam", "det"])
def test_attention_received_in_windows_is_the_mean_over_all_queries(name: str) -> None:
    tower: Any = eagle.build().towers[name]
    tokens = pruned(tower, some(1, 256, 0.4))
    probe = Probe(mode="received", queries=tokens.valid, want_keys=True)
    with_probe = tower.attend(0, tokens.x, None, probe, tower.where(tokens))
    assert torch.equal(with_probe, tower.attend(0, tokens.x, None, None, tower.where(tokens)))
    assert probe.attention is not None and probe.keys is not None
    assert probe.keys.shape == (1, tokens.x.shape[1], tower.width // 2)
    total = float(probe.attention.sum())
    assert total == pytest.approx(1.0, abs=1e-4) if name == "det" else total <= 1.0  # SAM's padding gets some


def test_merged_tokens_weigh_more_where_a_method_asks_for_it() -> None:
    tower: Any = eagle.build().towers["det"]
    tokens = pruned(tower, some(1, 256, 0.3))
    twice = replace(tokens, size=tokens.size.clone().index_fill_(1, torch.tensor([0]), 2.0))
    where = tower.where(twice)
    added = where.seen(torch.zeros(1), torch.float32)
    window = int(where.place[0, 0]) // where.index.shape[2]
    column = int(where.place[0, 0]) % where.index.shape[2]
    seen = added[window, 0, 0]
    assert float(seen[column]) == pytest.approx(0.6931, abs=1e-4)
    assert (added[window, 0, :, column].isfinite()).all()


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    tower: Any = eagle.build().towers["sam"]
    both = pruned(tower, some(2, 256, 0.5))
    together = tower.attend(0, both.x, None, None, tower.where(both))
    for row in range(2):
        alone = rows_of(both, torch.tensor([row]))
        alone = pick(alone, alone.valid)
        found = tower.attend(0, alone.x, None, None, tower.where(alone))
        assert torch.allclose(together[row, : found.shape[1]], found[0], atol=1e-5)
