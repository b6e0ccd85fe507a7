"""HoliTom against plain loops in float64 and against trying every cut."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.holitom import HoliTom, runs
from tests.methods.clips import clip, clusters, cosine, quotas
from tests.methods.views import view

Cell = tuple[int, int]


def saved(alike: Tensor, cuts: list[range]) -> int:
    return sum(int(alike[r[0] : r[-1]].all(0).sum()) * (len(r) - 1) for r in cuts if len(r) > 1)


def test_the_runs_save_as_much_as_any_cut_can() -> None:
    for seed in range(12):
        alike = torch.rand(6, 9, generator=torch.Generator().manual_seed(seed)) < 0.75
        most = 0
        for cut in product((False, True), repeat=6):
            bounds = [0, *(i + 1 for i, yes in enumerate(cut) if yes), 7]
            most = max(most, saved(alike, [range(a, b) for a, b in pairwise(bounds)]))
        found = runs(alike)
        assert [f for r in found for f in r] == list(range(7))
        assert saved(alike, found) == most > 0


def reference(x: Tensor, attention: Tensor, total: int) -> dict[Cell, Tensor]:
    """(frame, position) -> what the kept token there has become, in their order; for clips with enough left of them.

    Of each run the averaged ones, then frame by frame, both in the order of the grid.
    """
    frames, side, _ = x.shape
    alike = torch.cosine_similarity(x[1:], x[:-1], dim=2) > 0.8
    moving: list[list[int]] = [[] for _ in range(frames)]
    still: list[dict[int, Tensor]] = []
    starts = []
    for run in runs(alike):
        static = [p for p in range(side) if len(run) > 1 and all(bool(alike[f, p]) for f in run[:-1])]
        starts.append(run[0])
        still.append({p: torch.stack([x[f, p] for f in run]).mean(0) for p in static})
        for f in run:
            moving[f] = [p for p in range(side) if p not in static]
    assert total < sum(map(len, moving)) + sum(map(len, still))
    given = quotas(total, [*map(len, moving), *map(len, still)])
    out: dict[Cell, Tensor] = {}
    for f, k in enumerate(given[:frames]):
        for p in sorted(moving[f], key=lambda p, f=f: (-float(attention[f, p]), p))[:k]:  # type: ignore[misc]
            out[f, p] = x[f, p]
    for start, means, k in zip(starts, still, given[frames:], strict=True):
        places, values = list(means), list(means.values())
        if k == 0:
            continue
        for c, mine in clusters(values, k, min(7, k)).items():
            rest = torch.stack([values[i] for i in mine[1:]]).mean(0) if mine[1:] else values[c]
            out[start, places[c]] = 0.6 * values[c] + 0.4 * rest
    stand: list[Cell] = []
    for start, end, means in zip(starts, [*starts[1:], frames], still, strict=True):
        stand += [(start, p) for p in sorted(means) if (start, p) in out]
        stand += [(f, p) for f in range(start, end) for p in sorted(moving[f]) if (f, p) in out]
    assert len(stand) == len(out)
    return {cell: out[cell] for cell in stand}


@pytest.mark.parametrize("frames", [1, 4, 9])
def test_static_positions_are_averaged_and_the_rest_shared(frames: int) -> None:
    scenes = [i // 4 for i in range(frames)]
    x = torch.stack([clip(frames, 12, 10, scenes, seed) for seed in (1, 2)])
    tokens = Tokens.dense(x.flatten(1, 2), Grid(frames, 3, 4))
    score = torch.rand(2, frames * 12, generator=torch.Generator().manual_seed(3))
    merged = moved = 0
    for target in (1, 3, 5 + frames // 2):
        seen = view(tokens, target, scores={"t": score})
        out = apply(tokens, HoliTom().fuse({"t": seen})["t"])
        assert out.counts().tolist() == [2 * target] * 2
        for b in range(2):
            want = reference(x[b].double(), score[b].view(frames, 12), 2 * target)
            found = {divmod(int(out.origin[b, i]), 12): out.x[b, i].double() for i in range(2 * target)}
            assert list(found) == list(want)
            spatial = apply(tokens, HoliTom(order="spatial").fuse({"t": seen})["t"]).origin[b].tolist()
            assert spatial == sorted(out.origin[b].tolist())
            moved += spatial != out.origin[b].tolist()
            assert all(torch.allclose(found[c], want[c], atol=1e-5) for c in want)
            merged += sum(not torch.allclose(want[c], x[b][c].double(), atol=1e-3) for c in want)
    assert (merged > 0) == (frames > 1), "else nothing static is compared"
    assert (moved > 0) == (frames > 1)


def test_of_a_still_clip_the_least_alike_stay_by_themselves() -> None:
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)).repeat(5, 1, 1)
    x[3, 2] += 0.5 * torch.randn(8, generator=torch.Generator().manual_seed(1))  # still alike
    tokens = Tokens.dense(x.view(1, 30, 8), Grid(5, 2, 3))
    out = apply(
        tokens, HoliTom(threshold=0.5, first=1).fuse({"t": view(tokens, 7, scores={"t": torch.rand(1, 30)})})["t"]
    )
    assert sorted(out.origin[0].tolist()) == [*range(6), 3 * 6 + 2]


def test_the_late_merge() -> None:
    """A plain mean, or the authors' halving; both one after another in float64."""
    g = torch.Generator().manual_seed(4)
    tokens = Tokens.dense(torch.randn(1, 12, 6, generator=g), Grid(3, 2, 2))
    attention = torch.rand(1, 2, 1, 12, generator=g).softmax(-1)
    x, score = tokens.x[0].double(), attention[0].mean(0)[0]
    kept = sorted(range(12), key=lambda i: (-float(score[i]), i))[:4]
    for quirk in (False, True):
        seen = view(tokens, 4, attention=attention, tower="llm")
        out = apply(tokens, HoliTom(official_quirks=quirk).decode(seen))
        value = {k: x[k].clone() for k in kept}
        count = dict.fromkeys(kept, 1)
        for i in range(12):
            if i not in kept:
                best = max(kept, key=lambda k: (cosine(x[k], x[i]), -k))
                count[best] += 1
                value[best] = (value[best] + x[i]) / 2 if quirk else value[best] + (x[i] - value[best]) / count[best]
        assert max(count.values()) > 2
        assert out.origin[0].tolist() == sorted(kept)
        assert torch.allclose(out.x[0].double(), torch.stack([value[k] for k in sorted(kept)]), atol=1e-5)
