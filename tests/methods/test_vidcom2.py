"""VidCom2 against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.tokens import Grid
from meteor_bench.methods.vidcom2 import VidCom2
from tests.methods.views import ragged, view, visual_indices


def kernel(x: Tensor, mean: Tensor) -> float:
    square = float((x - mean).square().sum())
    return sum(math.exp(-square / (2 * a)) for a in (1 / 8, 1 / 4, 1 / 2, 1, 2))


def reference(x: Tensor, frame: list[int], total: int, temperature: float) -> set[int]:
    variance = x.var(0, unbiased=False)
    channels = sorted(sorted(range(x.shape[1]), key=lambda c: (float(variance[c]), c))[: x.shape[1] // 2])
    v = x[:, channels]
    v = v / v.norm(dim=1, keepdim=True)
    means = {f: v[[i for i, g in enumerate(frame) if g == f]].mean(0) for f in set(frame)}
    video = [kernel(row, v.mean(0)) for row in v]
    score = [video[i] + kernel(row, means[frame[i]]) for i, row in enumerate(v)]
    size = {f: frame.count(f) for f in sorted(means)}
    unlike = {f: -sum(video[i] for i, g in enumerate(frame) if g == f) / size[f] / temperature for f in size}
    top = max(unlike.values())
    p = {f: math.exp(u - top) for f, u in unlike.items()}
    p = {f: e / sum(p.values()) for f, e in p.items()}
    weight = {f: (1 + p[f] - 1 / len(p)) * size[f] for f in p}
    share, free, left = dict.fromkeys(p, 0), set(p), total
    while True:  # what a frame cannot take goes to the others
        ideal = {f: (total - sum(share.values())) * weight[f] / sum(weight[g] for g in free) for f in sorted(free)}
        full = [f for f in ideal if ideal[f] >= size[f]]
        if not full:
            break
        for f in full:
            share[f] = size[f]
            free.discard(f)
        if not free:
            break
    if free:
        for f, k in ideal.items():
            share[f] = int(k)
        left = total - sum(share.values())
        for f in sorted(ideal, key=lambda f: (-(ideal[f] - int(ideal[f])), f))[:left]:
            share[f] += 1
    kept: set[int] = set()
    for f in p:
        mine = sorted((i for i, g in enumerate(frame) if g == f), key=lambda i: (score[i], i))
        kept |= set(mine[: share[f]])
    return kept


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("counts", [[48, 48], [48, 30, 7]])
def test_frames_and_tokens_unlike_the_video_stay(counts: list[int], temperature: float) -> None:
    grid = Grid(4, 3, 4)
    tokens = ragged(counts, grid, dim=10, seed=len(counts))
    for target in (3, 9, 17, 40):
        keep = VidCom2(temperature=temperature).fuse({"t": view(tokens, target)})["t"].keep
        for b, count in enumerate(counts):
            at = visual_indices(tokens, b)
            frame = [int(tokens.origin[b, i]) // 12 for i in at]
            want = reference(tokens.x[b, at].double(), frame, min(target, count), temperature)
            assert len(want) == min(target, count)
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == {at[p] for p in want}


def test_a_still_video_gives_its_tokens_to_the_frame_that_changes() -> None:
    grid = Grid(5, 3, 3)
    tokens = ragged([45], grid, dim=16, seed=2)
    x = tokens.x.clone().reshape(1, 5, 9, 16)
    x[:, 1:] = x[:, :1]
    x[:, 3] += 2 * torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(1))
    kept = VidCom2().fuse({"t": view(tokens.with_x(x.reshape(1, 45, 16)), 15)})["t"].keep.reshape(5, 9).sum(1)
    assert int(kept[3]) > int(kept[[0, 1, 2, 4]].max())
