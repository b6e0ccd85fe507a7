"""Clips taken apart into frames, against plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.frames_apart import apart
from meteor_bench.core.join import join_frames
from meteor_bench.core.pick import pick
from meteor_bench.core.tokens import Grid, Tokens

GRID = Grid(1, 2, 3)
CLIPS, FRAMES = 3, 4


def clips(specials: int, share: float, seed: int = 0) -> Tokens:
    """Clips of which a part of the tokens is left; frame 2 of clip 1 has none, clip 2 begins with two such frames."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(CLIPS * FRAMES, specials + GRID.n, 5, generator=draw)
    joined = join_frames(Tokens.dense(x, GRID, specials), FRAMES)
    keep = torch.rand(joined.valid.shape, generator=draw) < share
    frame = joined.origin // GRID.n
    keep[1] &= frame[1] != 2
    keep[2] &= frame[2] > 1
    return pick(joined, (keep & joined.visual) | joined.special)


def looped(tokens: Tokens, specials: int) -> dict[int, list[tuple[int, int]]]:
    """Frame among B·F -> (place in the clip, origin in the frame or -1) of its tokens, for frames with visual ones."""
    out: dict[int, list[tuple[int, int]]] = {}
    for b in range(CLIPS):
        seen = 0
        for n in range(tokens.x.shape[1]):
            if not tokens.valid[b, n]:
                continue
            if tokens.special[b, n]:
                frame, origin = seen // specials, -1
                seen += 1
            else:
                frame, origin = divmod(int(tokens.origin[b, n]), GRID.n)
            out.setdefault(b * FRAMES + frame, []).append((n, origin))
    return {frame: row for frame, row in sorted(out.items()) if any(origin >= 0 for _, origin in row)}


@pytest.mark.parametrize("specials", [0, 1, 2])
@pytest.mark.parametrize("share", [1.1, 0.5])
def test_rows_are_the_frames_that_have_tokens(specials: int, share: float) -> None:
    tokens = clips(specials, share)
    found, want = apart(tokens), looped(tokens, specials)
    assert found.rows == tuple(want) and len(found.rows) < CLIPS * FRAMES
    for r, (frame, row) in enumerate(want.items()):
        b, places = frame // FRAMES, [n for n, _ in row]
        k = len(row)
        assert found.lengths[frame] == (k - specials, specials)
        assert torch.equal(found.tokens.x[r, :k], tokens.x[b, places])
        assert found.tokens.origin[r, :k].tolist() == [origin for _, origin in row]
        assert found.tokens.special[r].tolist() == [i < specials for i in range(found.tokens.x.shape[1])]
        assert found.tokens.valid[r].tolist() == [i < k for i in range(found.tokens.x.shape[1])]
        assert not found.tokens.x[r, k:].any()
    empty = [n for n, length in enumerate(found.lengths) if length.all == 0]
    assert sorted([*empty, *found.rows]) == list(range(CLIPS * FRAMES))


@pytest.mark.parametrize("specials", [0, 1])
def test_what_is_split_is_joined_again(specials: int) -> None:
    tokens = clips(specials, 0.6, seed=1)
    found = apart(tokens)
    alive = {(f // FRAMES, n) for f, row in looped(tokens, specials).items() for n, _ in row}
    there = torch.zeros_like(tokens.valid)
    for b, n in alive:
        there[b, n] = True
    values = torch.randn(tokens.valid.shape)
    assert torch.equal(found.there, there)
    assert torch.equal(found.join(found.split(values)), torch.where(there, values, 0.0))
    assert torch.equal(found.join(2 * found.tokens.x, tokens.x), torch.where(there[..., None], 2 * tokens.x, tokens.x))


def test_frames_have_no_groups() -> None:
    with pytest.raises(RuntimeError, match="no groups"):
        _: Tensor = apart(clips(0, 1.1)).tokens.group
