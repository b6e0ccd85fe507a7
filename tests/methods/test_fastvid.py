"""FastVID against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.pruner import Decision
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.fastvid import FastVID
from meteor_bench.methods.shared.clips import segments
from tests.methods.clips import clip, cosine, evenly, peaks
from tests.methods.views import view


def reference(x: Tensor, attention: Tensor, total: int, least: int) -> dict[tuple[int, int], Tensor]:
    """(frame, position) -> what the kept token there has become."""
    frames, side, _ = x.shape
    mean = x.mean(1)
    like = [cosine(mean[i], mean[i + 1]) for i in range(frames - 1)]
    cut = set(sorted(range(frames - 1), key=lambda i: (like[i], i))[: least - 1])
    cut |= {i for i in range(frames - 1) if like[i] < 0.9}
    parts, run = [], [0]
    for i in range(1, frames):
        if i - 1 in cut:
            parts.append(run)
            run = []
        run.append(i)
    parts.append(run)
    slots = evenly(total, [side] * frames)
    out: dict[tuple[int, int], Tensor] = {}
    for part in parts:
        rest: dict[int, list[int]] = {}
        for f in part:
            few = slots[f] - math.floor(0.4 * slots[f] + 1e-9)
            order = sorted(range(side), key=lambda p, f=f: (-float(attention[f, p]), p))  # type: ignore[misc]
            out |= {(f, p): x[f, p] for p in order[:few]}
            rest[f] = sorted(order[few:])
        context = sum(math.floor(0.4 * slots[f] + 1e-9) for f in part)
        anchors = [f for f in part if (part[-1] - f) % 4 == 0]
        given = dict(zip(anchors, evenly(context, [len(rest[f]) for f in anchors]), strict=True))
        others = [f for f in part if f not in anchors]
        given |= dict(zip(others, evenly(context - sum(given.values()), [len(rest[f]) for f in others]), strict=True))
        for f, k in given.items():
            if k == 0:
                continue
            chosen = sorted(rest[f][i] for i in peaks([x[f, p] for p in rest[f]], k, 4))
            joined: dict[int, list[Tensor]] = {p: [] for p in chosen}
            for g in part:
                for q in rest[g]:
                    best = max(chosen, key=lambda p: (cosine(x[f, p], x[g, q]), -p))
                    joined[best].append(x[g, q])
            for p, mine in joined.items():
                w = max(1 / (len(mine) + 1), 0.6)
                out[f, p] = w * x[f, p] + (1 - w) * torch.stack(mine).mean(0)
    return out


@pytest.mark.parametrize(("frames", "least"), [(1, 8), (6, 8), (11, 3), (11, 1)])
def test_salient_tokens_stay_and_peaks_take_in_the_rest(frames: int, least: int) -> None:
    scenes = [i // 5 for i in range(frames)]
    x = torch.stack([clip(frames, 12, 10, scenes, seed) for seed in (1, 2)])
    grid = Grid(frames, 3, 4)
    tokens = Tokens.dense(x.flatten(1, 2), grid)
    score = torch.rand(2, grid.n, generator=torch.Generator().manual_seed(3))
    for target in sorted({2, frames * 12 // 3, frames * 12 - 5}):
        seen = view(tokens, target, scores={"t": score})
        out = apply(tokens, FastVID(segments=least).fuse({"t": seen})["t"])
        assert out.counts().tolist() == [target, target]
        for b in range(2):
            want = reference(x[b].double(), score[b].view(frames, 12), target, least)
            assert len(want) == target
            found = {divmod(int(out.origin[b, i]), 12): out.x[b, i].double() for i in range(target)}
            assert found.keys() == want.keys()
            assert all(torch.allclose(found[c], want[c], atol=1e-5) for c in want)


def test_positions_that_are_gone_from_every_frame_take_no_part() -> None:
    x = clip(6, 9, 6, [0, 0, 0, 1, 1, 1], 4)
    score = torch.rand(1, 54, generator=torch.Generator().manual_seed(5))
    left = torch.tensor([0, 2, 3, 5, 6, 8])
    keep = torch.zeros(6, 9, dtype=torch.bool).index_fill(1, left, True).view(1, 54)
    tokens = apply(Tokens.dense(x.view(1, 54, 6), Grid(6, 3, 3)), Decision(keep=keep))
    small = Tokens.dense(x[:, left].reshape(1, 36, 6), Grid(6, 2, 3))
    out = apply(tokens, FastVID(segments=1).fuse({"t": view(tokens, 14, scores={"t": score})})["t"])
    alone = view(small, 14, scores={"t": score[keep].view(1, 36)})
    want = apply(small, FastVID(segments=1).fuse({"t": alone})["t"])
    frame, place = want.origin // 6, want.origin % 6
    assert torch.equal(out.origin, 9 * frame + left[place])
    assert torch.allclose(out.x, want.x, atol=1e-6)


def test_frames_unlike_their_neighbours_are_cut_apart() -> None:
    likeness = [0.99, 0.5, 0.95, 0.97, 0.96]
    assert segments(likeness, 0, 0.9) == [range(2), range(2, 6)]
    assert segments(likeness, 2, 0.9) == [range(2), range(2, 3), range(3, 6)]
    assert segments([], 7, 0.9) == [range(1)]
