"""SparseVLM against plain loops in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import View
from meteor_bench.core.tokens import Grid
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import fuse
from meteor_bench.engine.generate import answer
from meteor_bench.methods.sparsevlm import MEMO, SparseVLM, density_peaks, raters, schedule
from tests import tiny
from tests.methods.views import clustered, ragged, view, visual_indices

GRID = Grid(1, 6, 6)
WORDS = (6, 3, 1)


def reference_raters(x: Tensor, text: Tensor) -> list[int]:
    mean = [0.0] * len(text)
    for row in x.double():
        dots = [float(row @ word) for word in text.double()]
        mass = sum(math.exp(d - max(dots)) for d in dots)
        mean = [m + math.exp(d - max(dots)) / mass / len(x) for m, d in zip(mean, dots, strict=True)]
    above = [t for t, m in enumerate(mean) if m > sum(mean) / len(mean)]
    return above or list(range(len(text)))


def reference_peaks(x: Tensor, k: int) -> tuple[list[int], list[int]]:
    """Centres in falling order of score, and the centre of each point."""
    n, x = len(x), x.double()
    d = [[float((x[i] - x[j]).norm()) / x.shape[1] ** 0.5 for j in range(n)] for i in range(n)]
    density = [math.exp(-sum(v * v for v in sorted(row)[:k]) / k) for row in d]
    far = max(max(row) for row in d)
    score = []
    for i in range(n):
        # Of two equal densities the lower index is the peak.
        above = [d[i][j] for j in range(n) if (density[j], -j) > (density[i], -i)]
        score.append(density[i] * min(above, default=far))
    centres = sorted(range(n), key=lambda i: (-score[i], i))[:k]
    return centres, [i if i in centres else min(centres, key=lambda c: (d[i][c], centres.index(c))) for i in range(n)]


def seen(counts: list[int], target: int, seed: int, point: int, dim: int = 8) -> View:
    tokens = ragged(counts, GRID, dim=dim, seed=seed)
    g = torch.Generator().manual_seed(seed)
    rows, n = len(counts), tokens.x.shape[1]
    valid = torch.arange(6) < torch.tensor(WORDS[:rows])[:, None]
    attention = torch.rand(rows, 4, 6, n, generator=g) * valid[:, None, :, None]
    chosen = (torch.rand(rows, 6, generator=g) < 0.5) & valid
    chosen[:, 0] = True
    return view(
        tokens,
        target,
        tower="llm",
        attention=attention,
        text=torch.randn(rows, 6, dim, generator=g) * valid[..., None],
        text_valid=valid,
        rope=2 + torch.rand(60, generator=g),
        memo={MEMO: chosen},
        point=point,
    )


@pytest.mark.parametrize("counts", [[36, 36, 36], [36, 20, 1]])
def test_raters(counts: list[int]) -> None:
    for seed, dim in [(0, 8), (1, 3), (2, 20)]:
        v = seen(counts, 9, seed, 0, dim)
        decision = SparseVLM().decode(v)
        assert torch.equal(decision.keep, v.tokens.visual)
        for b, words in enumerate(WORDS):
            want = reference_raters(v.tokens.x[b, visual_indices(v.tokens, b)], v.text[b, :words])  # type: ignore[index]
            assert [int(t) for t in decision.memo[MEMO][b].nonzero()[:, 0]] == want


def test_raters_are_all_words_where_none_stands_out() -> None:
    same = torch.ones(1, 4, 8)
    valid = torch.tensor([[True, True, True, False]])
    assert raters(torch.randn(1, 9, 8), torch.ones(1, 9, dtype=torch.bool), same, valid).tolist() == valid.tolist()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_density_peaks(k: int) -> None:
    counts = [20, 13, 5]
    for seed, dim in [(0, 4), (1, 16)]:
        x = clustered(3, 20, dim, seed)
        present = torch.arange(20) < torch.tensor(counts)[:, None]
        found = density_peaks(x, present, torch.tensor([k] * 3))
        for b, n in enumerate(counts):
            centres, into = reference_peaks(x[b, :n], k)
            assert {int(i) for i in found.centre[b].nonzero()[:, 0]} == set(centres)
            assert [int(found.rank[b, c]) for c in centres] == list(range(k))
            assert found.into[b].tolist() == into + [-1] * (20 - n)


def test_two_pairs_are_two_clusters() -> None:
    """Nearest neighbours have the same density to the last bit; the authors' noise makes one of them the peak."""
    for points, want in (
        ([0.0, 0.1, 10.0, 10.3], [0, 0, 2, 2]),
        ([10.3, 10.0, 0.1, 0.0], [0, 0, 2, 2]),
        ([5.0, 5.0, 5.0, 9.0], [0, 0, 0, 3]),
        ([1.0, 1.0], [0, 1]),
    ):
        x = torch.tensor(points)[None, :, None]
        found = density_peaks(x, torch.ones(1, len(points), dtype=torch.bool), torch.tensor([2]))
        assert found.into[0].tolist() == want and int(found.centre.sum()) == 2


@pytest.mark.parametrize("point", [1, 2, 3])
@pytest.mark.parametrize("counts", [[36, 36, 36], [36, 20, 1]])
def test_version_1_5(counts: list[int], point: int) -> None:
    for seed, target in [(0, 1), (1, 3), (2, 9), (3, 25), (4, 36)]:
        v = seen(counts, target, seed, point)
        out = apply(v.tokens, SparseVLM().decode(v))
        total = schedule("v1.5", 36, target, point - 1)
        for b, count in enumerate(counts):
            at, words = visual_indices(v.tokens, b), [int(t) for t in v.memo[MEMO][b].nonzero()[:, 0]]
            a = v.attention[b].double()  # type: ignore[index]
            score = {i: sum(float(a[h, t, i]) for h in range(4) for t in words) for i in at}
            ranked = sorted(at, key=lambda i: (-score[i], i))
            wanted = min(total, count)

            def means(kept: int, count: int = count, wanted: int = wanted) -> int:
                dropped = count - kept
                return min((int(0.3 * dropped) + 1) // 10 + 1, wanted // 2) if dropped else 0

            kept = max(k for k in range(count + 1) if k + means(k) == wanted)
            rest, clusters = ranked[kept:], means(kept)
            recycled = sorted(rest[: int(0.3 * len(rest)) + 1]) if clusters else []
            want = [v.tokens.x[b, i].double() for i in sorted(ranked[:kept])]
            if clusters:
                centres, into = reference_peaks(v.tokens.x[b, recycled], clusters)
                for c in centres:
                    want.append(
                        v.tokens.x[b, [r for r, i in zip(recycled, into, strict=True) if i == c]].double().mean(0)
                    )
            assert int(out.valid[b].sum()) == wanted == len(want)
            assert torch.allclose(out.x[b, :wanted].double(), torch.stack(want), atol=1e-5)


@pytest.mark.parametrize("counts", [[36, 36, 36], [36, 20, 1]])
def test_version_2(counts: list[int]) -> None:
    for seed, target in [(0, 1), (1, 9), (2, 25)]:
        v = seen(counts, target, seed, 3)
        keep = SparseVLM(version="v2").decode(v).keep
        for b in range(3):
            at, words = visual_indices(v.tokens, b), [int(t) for t in v.memo[MEMO][b].nonzero()[:, 0]]
            a = {
                (h, t, i): float(v.attention[b, h, t, i])  # type: ignore[index]
                / float(v.rope[36 + t - int(v.tokens.origin[b, i])])  # type: ignore[index]
                for h in range(4)
                for t in words
                for i in at
            }
            heads = sorted(range(4), key=lambda h: -sum(a[h, t, i] for t in words for i in at))[:2]  # 14/32 of 4
            score = {i: sum(a[h, t, i] for h in heads for t in words) for i in at}
            assert {int(i) for i in keep[b].nonzero()[:, 0]} == set(sorted(at, key=lambda i: -score[i])[:target])


def test_published_schedules() -> None:
    kept = {"v2": [[300, 200, 118], [238, 108, 60], [246, 54, 28], [66, 34, 20]]}
    kept["v1.5"] = []
    for counts in ([300, 200, 110], [303, 110, 36], [66, 30, 17]):  # and the means that go with them
        n, row = 576, []
        for k in counts:
            n = k + (int(0.3 * (n - k)) + 1) // 10 + 1
            row.append(n)
        kept["v1.5"].append(row)
    for version, rows in kept.items():
        for row in rows:
            assert [schedule(version, 576, row[-1], i) for i in range(3)] == row


@pytest.mark.parametrize("version", ["v1.5", "v2"])
@pytest.mark.parametrize("n", [256, 576])
def test_budgets_are_exact(n: int, version: str) -> None:
    side = int(n**0.5)
    method = SparseVLM(version=version)  # type: ignore[arg-type]
    for ratio in (0.5, 0.667, 0.76, 0.778, 0.889, 0.944):
        target = round((1 - ratio) * n)
        tokens, counts = ragged([n], Grid(1, side, side), dim=3), [n]
        for point in (1, 2, 3):
            width = tokens.x.shape[1]
            v = view(tokens, target, attention=torch.rand(1, 2, 1, width), memo={MEMO: torch.ones(1, 1).bool()})
            v = v.changed(text=torch.ones(1, 1, 3), text_valid=torch.ones(1, 1).bool(), rope=torch.ones(n + 1))
            tokens = apply(tokens, method.decode(v.changed(point=point)))
            counts.append(int(tokens.counts()))
        assert counts[-1] == target and counts == sorted(counts, reverse=True)
        assert counts[1:] == [schedule(version, n, target, i) for i in range(3)]


def test_points_and_positions() -> None:
    def layers(depth: int, version: str = "v1.5") -> list[int]:
        model = SimpleNamespace(name="m", decoder=SimpleNamespace(depth=depth))
        points = SparseVLM(version=version).points(model, TokenBudget(0.5)).decode  # type: ignore[arg-type]
        assert [p.rope for p in points[1:]] == [version == "v2"] * 3
        return [p.before for p in points]

    assert layers(32) == [0, 3, 7, 16] and layers(32, "v2") == [0, 3, 7, 16]
    assert layers(5) == [0, 1, 2, 3] and layers(4) == [0, 1, 2, 3]
    with pytest.raises(UnsupportedError, match=r"sparsevlm.*'m' has 3 layers"):
        layers(3)
    assert (SparseVLM().positions, SparseVLM(version="v2").positions) == ("renumber", "keep")


@torch.inference_mode()
def test_the_engines_position_bias() -> None:
    vlm, asked = tiny.build("single"), tiny.requests(2)
    seen_views: list[View] = []
    engine = Engine(vlm, SparseVLM(version="v2"), TokenBudget(0.5), observer=lambda v: bool(seen_views.append(v)))
    visual = fuse(engine, encode(engine, tiny.pixels(vlm, asked), [r.key for r in asked]))
    answer(engine, visual, range(2), tiny.prompts(vlm, asked), 1)
    rope = seen_views[1].rope
    with pytest.raises(UnsupportedError, match="rope=True"):
        _ = seen_views[0].rope
    assert len(rope) >= visual.layout + seen_views[1].text.shape[1]  # type: ignore[union-attr]
    d = 12  # of a head: width 48, 4 heads
    frequencies = [10000 ** (-2 * f / d) for f in range(d // 2)]
    want = [2 * sum(math.cos(t * f) for f in frequencies) / math.sqrt(d) for t in range(len(rope))]
    assert torch.allclose(rope, torch.tensor(want), atol=1e-4)
