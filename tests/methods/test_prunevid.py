"""PruneVid against plain loops in float64."""

from __future__ import annotations

import math
import random
from itertools import combinations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.prunevid import PruneVid, pairwise_likeness, refined
from tests import tiny
from tests.methods.clips import clip, clusters, cosine, quotas
from tests.methods.views import view


def joined(of: list[int]) -> list[int]:
    """Frames that are not in a longest run of their cluster go to the longer run beside them."""
    n = len(of)

    def run(labels: list[int], f: int, step: int) -> int:
        """How many frames from f on, in one direction, have its label."""
        return 1 + run(labels, f + step, step) if 0 <= f + step < n and labels[f + step] == labels[f] else 1

    lengths = [run(of, f, -1) + run(of, f, 1) - 1 for f in range(n)]
    out = [of[f] if 1 < lengths[f] == max(lengths[g] for g in range(n) if of[g] == of[f]) else -1 for f in range(n)]
    f = 0
    while f < n:
        end = f
        while end < n and out[end] == -1:
            end += 1
        if end > f:
            left = run(out, f - 1, -1) if f else 0
            right = run(out, end, 1) if end < n else 0
            label = 0 if left == right == 0 else out[f - 1] if left >= right else out[end]
            out[f:end] = [label] * (end - f)
        f = end + 1
    return out


def reference(x: Tensor, total: int) -> dict[tuple[int, int], Tensor]:
    """(frame, position) -> what the kept token there has become, in their order; for clips with enough left of them.

    Of each segment the averaged ones, then frame by frame, the strongest peak first; as they were where all are kept.
    """
    frames, side, _ = x.shape
    of = [0] * frames
    for peak, mine in clusters(list(x.mean(1)), max(1, int(0.25 * frames)), 7).items():
        for f in mine:
            of[f] = peak
    of = joined(of)
    segments: list[list[int]] = []
    for f in range(frames):
        if f and of[f] == of[f - 1]:
            segments[-1].append(f)
        else:
            segments.append([f])
    moving: list[dict[int, Tensor]] = [{} for _ in range(frames)]
    still: list[dict[int, Tensor]] = []
    for part in segments:
        pairs = list(combinations(part, 2))
        alike = [sum(cosine(x[f, p], x[g, p]) for f, g in pairs) / max(1, len(pairs)) for p in range(side)]
        static = [p for p in range(side) if pairs and alike[p] > 0.8]
        still.append({p: torch.stack([x[f, p] for f in part]).mean(0) for p in static})
        for f in part:
            moving[f] = {p: x[f, p] for p in range(side) if p not in static}
    assert total < sum(map(len, moving)) + sum(map(len, still))
    out: dict[tuple[int, int], Tensor] = {}
    stand: dict[tuple[bool, int], list[tuple[int, int]]] = {}  # (averaged, first frame) -> its cells
    heads = [*range(frames), *(part[0] for part in segments)]
    given = quotas(total, [*map(len, moving), *map(len, still)])
    for f, tokens, k in zip(heads, [*moving, *still], given, strict=True):
        places, values = list(tokens), list(tokens.values())
        for peak, mine in clusters(values, k, 7).items() if k else ():
            out[f, places[peak]] = torch.stack([values[i] for i in mine]).mean(0)
            stand.setdefault((tokens is not moving[f], f), []).append((f, places[peak]))
        if k == len(tokens) > 0:
            stand[tokens is not moving[f], f].sort()
    turns = [(averaged, f) for part in segments for averaged, f in [(True, part[0]), *((False, f) for f in part)]]
    cells = [cell for turn in turns for cell in stand.get(turn, [])]
    assert len(cells) == len(out)
    return {cell: out[cell] for cell in cells}


def test_scattered_frames_join_the_run_beside_them() -> None:
    draw = random.Random(0)
    assert refined([0, 0, 0, 1, 0, 2, 2]) == [0, 0, 0, 0, 0, 2, 2] and refined([3, 4, 5]) == [0, 0, 0]
    for _ in range(300):
        labels = [draw.randrange(3)]
        for _ in range(draw.choice([1, 7, 15])):
            labels.append(labels[-1] if draw.random() < 0.6 else draw.randrange(3))
        assert refined(labels) == joined(labels)


@pytest.mark.parametrize("frames", [1, 4, 9])
def test_static_positions_are_averaged_and_everything_clustered(frames: int) -> None:
    scenes = [i // 4 for i in range(frames)]
    x = torch.stack([clip(frames, 12, 10, scenes, seed) for seed in (1, 2)])
    tokens = Tokens.dense(x.flatten(1, 2), Grid(frames, 3, 4))
    for target in (1, 2, 2 + frames // 2):
        total = math.floor(2.5 * target + 0.5)
        out = apply(tokens, PruneVid().fuse({"t": view(tokens, target, kind="fuse")})["t"])
        assert out.counts().tolist() == [total] * 2
        for b in range(2):
            want = reference(x[b].double(), total)
            found = {divmod(int(out.origin[b, i]), 12): out.x[b, i].double() for i in range(total)}
            assert list(found) == list(want)
            spatial = apply(tokens, PruneVid(order="spatial").fuse({"t": view(tokens, target, kind="fuse")})["t"])
            assert spatial.origin[b].tolist() == sorted(out.origin[b].tolist())
            assert all(torch.allclose(found[c], want[c], atol=1e-5) for c in want)


def test_likeness_is_the_mean_over_all_pairs() -> None:
    x = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    want = [sum(cosine(x[f, p], x[g, p]) for f, g in combinations(range(5), 2)) / 10 for p in range(3)]
    assert pairwise_likeness(x).tolist() == pytest.approx(want)


def test_of_a_still_clip_the_least_alike_stay_by_themselves() -> None:
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1)
    x[3, 2] += 0.5 * torch.randn(8, generator=torch.Generator().manual_seed(1))  # still alike
    tokens = Tokens.dense(x.view(1, 24, 8), Grid(4, 2, 3))
    seen = view(tokens, 7, kind="fuse")
    out = apply(tokens, PruneVid(threshold=0.5, first=1).fuse({"t": seen})["t"])
    assert sorted(out.origin[0].tolist()) == [*range(6), 3 * 6 + 2]


def test_one_head_of_one_token_of_the_question_is_enough() -> None:
    tokens = Tokens.dense(torch.randn(1, 8, 4), Grid(1, 2, 4))
    attention = torch.full((1, 3, 2, 8), 0.1)
    attention[0, 2, 1, 5], attention[0, 0, 0, 3] = 0.5, 0.4
    attention[0, :, :, 6] = 0.3  # more than either on average
    keep = PruneVid().decode(view(tokens, 2, attention=attention, tower="llm")).keep
    assert keep[0].nonzero()[:, 0].tolist() == [3, 5]


@pytest.mark.parametrize("framed", [True, False])
def test_each_frame_and_each_segments_averaged_tokens_keep_their_part(framed: bool) -> None:
    """Rows of different clips; what stands for one frame is told from what stands for several by the cells alone."""
    frames, side = 8, 12
    x = torch.stack([clip(frames, side, 10, [0, 0, 0, 0, 1, 1, 1, 1], seed) for seed in (1, 2)])
    layout = Layout("independent", {"t": Grid(frames, 3, 4)}, {"t": 4}, framed=framed)
    tokens = Tokens.dense(x.flatten(1, 2), Grid(frames, 3, 4))
    method = PruneVid()
    left = apply(tokens, method.fuse({"t": view(tokens, 14, kind="fuse")})["t"])
    attention = torch.rand(2, 3, 2, left.x.shape[1], generator=torch.Generator().manual_seed(6)).pow(4)
    keep = method.decode(view(left, 14, attention=attention, tower="llm", layout=layout)).keep
    averaged = 0
    for b in range(2):
        score = [max(attention[b, h, q, i].item() for h in range(3) for q in range(2)) for i in range(left.x.shape[1])]
        groups: dict[tuple[bool, int], list[int]] = {}
        for i, origin in enumerate(left.origin[b].tolist()):
            stands = {cell // side for cell, end in enumerate(left.group[b].tolist()) if end == origin}
            groups.setdefault((len(stands) > 1, min(stands)) if framed else (False, 0), []).append(i)
        names = sorted(groups)
        averaged += sum(len(groups[name]) for name in names if name[0])
        want: set[int] = set()
        for name, k in zip(names, quotas(14, [len(groups[name]) for name in names]), strict=True):
            want |= set(sorted(groups[name], key=lambda i: -score[i])[:k])
        assert set(keep[b].nonzero()[:, 0].tolist()) == want and len(want) == 14
        assert framed == (want != set(sorted(range(len(score)), key=lambda i: -score[i])[:14]))
    assert averaged > 0 or not framed


def test_the_frames_of_several_encoders_are_told_apart() -> None:
    grids = {"a": Grid(2, 1, 4), "b": Grid(2, 1, 2)}
    tokens = Tokens.dense(torch.randn(1, 12, 4), Grid(1, 1, 12))
    attention = torch.arange(12.0).expand(1, 1, 1, 12)
    seen = view(tokens, 6, attention=attention, tower="llm", layout=Layout("independent", grids, {"a": 4, "b": 4}))
    assert PruneVid().decode(seen).keep[0].nonzero()[:, 0].tolist() == [2, 3, 6, 7, 9, 11]


def test_it_looks_at_what_the_eleventh_of_32_layers_attends_to() -> None:
    vlm = tiny.build("single")
    vlm.decoder.depth = 32  # type: ignore[misc]
    (point,) = PruneVid().points(vlm, TokenBudget(0.4)).decode
    assert (point.before, point.attention) == (11, "text")
