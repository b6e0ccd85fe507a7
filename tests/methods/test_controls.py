"""random, uniform, pool, fastv: exact counts and the arithmetic of each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.fastv import FastV
from meteor_bench.methods.none import NoPruning
from meteor_bench.methods.pool import Pool, cells
from meteor_bench.methods.random import Random
from meteor_bench.methods.uniform import Uniform
from tests.methods.views import clustered, ragged, view, visual_indices


def test_none_asks_nowhere() -> None:
    points = NoPruning().points(None, TokenBudget(0.2))  # type: ignore[arg-type]
    assert points.encode == () and points.fuse is None and points.decode == ()


@pytest.mark.parametrize("method", [Random(), Uniform(), Pool()], ids=lambda m: type(m).__name__)
def test_the_budget_is_split_by_count_and_met(method: Random | Uniform | Pool) -> None:
    a, b = ragged([16, 9, 12], Grid(1, 4, 4), seed=1), ragged([4, 4, 2], Grid(1, 2, 2), seed=2)
    views = {"a": view(a, [5, 13, 7], tower="a"), "b": view(b, [5, 13, 7], tower="b", seed=3)}
    out = method.fuse(views)
    kept = {name: apply(v.tokens, out[name]).counts() for name, v in views.items()}
    assert (kept["a"] + kept["b"]).tolist() == [5, 13, 7]
    assert kept["a"].tolist() == [4, 9, 6]  # 16:4, 9:4, 12:2


def test_random_is_uniform_over_tokens() -> None:
    tokens = ragged([16], Grid(1, 4, 4))
    hits = torch.zeros(16)
    for seed in range(400):
        hits += Random().fuse({"t": view(tokens, 4, seed=seed)})["t"].keep[0]
    assert hits.sum() == 1600 and hits.min() > 60 and hits.max() < 145


@pytest.mark.parametrize(("h", "w", "sides"), [(8, 8, (4, 4)), (8, 8, (2, 2)), (6, 12, (3, 6)), (4, 4, (4, 4))])
def test_pool_is_adaptive_average_pooling_where_that_fits(h: int, w: int, sides: tuple[int, int]) -> None:
    x = clustered(2, h * w, 5, seed=4)
    tokens = Tokens.dense(x, Grid(1, h, w))
    out = apply(tokens, Pool().fuse({"t": view(tokens, sides[0] * sides[1])})["t"])
    planes = x.transpose(1, 2).reshape(2, 5, h, w)
    want = F.adaptive_avg_pool2d(planes, sides).flatten(2).transpose(1, 2)
    assert torch.allclose(out.x, want, atol=1e-6)
    assert out.valid.all() and out.size.sum(1).tolist() == [h * w] * 2


@pytest.mark.parametrize("grid", [Grid(1, 16, 16), Grid(1, 5, 7), Grid(4, 4, 4), Grid(3, 2, 5), Grid(1, 1, 9)])
def test_pool_cells_partition_the_grid_at_every_target(grid: Grid) -> None:
    index = torch.arange(grid.n)[None]
    for target in range(1, grid.n + 1):
        cell = cells(index, torch.tensor([target]), grid)[0]
        assert set(cell.tolist()) - {-1} == set(range(target))
        frames = index[0] // (grid.h * grid.w)
        for c in range(target):
            members = index[0][cell == c]
            assert len(frames[members].unique()) == 1  # never across frames
            rows, cols = members // grid.w % grid.h, members % grid.w
            assert len(members) == len(rows.unique()) * len(cols.unique())  # a rectangle
        if target >= grid.t:
            assert (cell >= 0).all()


def test_pool_weighs_by_size_on_a_sequence_that_is_no_grid() -> None:
    tokens = ragged([10, 16], Grid(1, 4, 4), seed=9)
    decision = Pool().fuse({"t": view(tokens, [3, 4])})["t"]
    out = apply(tokens, decision)
    at = visual_indices(tokens, 0)
    runs = [[i for p, i in enumerate(at) if p * 3 // 10 == r] for r in range(3)]
    for r, run in enumerate(runs):
        weight = tokens.size[0, run].double()
        want = (tokens.x[0, run].double() * weight[:, None]).sum(0) / weight.sum()
        assert torch.allclose(out.x[0, r].double(), want, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("side", [4, 7])
def test_fastv_keeps_what_the_last_token_attends_to(side: int, heads: int) -> None:
    tokens = ragged([side * side, 9, 12], Grid(1, side, side), seed=1)
    attention = torch.rand(3, heads, 1, tokens.x.shape[1])
    targets = [4, 20, 5]
    keep = FastV().decode(view(tokens, targets, attention=attention)).keep
    for b in range(3):
        at = visual_indices(tokens, b)
        mean = {i: sum(float(attention[b, h, 0, i]) for h in range(heads)) / heads for i in at}
        want = sorted(sorted(at, key=lambda i: (-mean[i], i))[: targets[b]])
        assert [int(i) for i in keep[b].nonzero()[:, 0]] == want
        left = [mean[i] for i in at if i not in want]
        assert not left or max(left) <= min(mean[i] for i in want)


def test_fastv_needs_a_layer_before_and_after() -> None:
    shallow = SimpleNamespace(name="m", decoder=SimpleNamespace(depth=2))
    with pytest.raises(UnsupportedError, match="'m'"):
        FastV().points(shallow, TokenBudget(0.5))  # type: ignore[arg-type]


def test_of_a_clip_with_fewer_cells_than_frames_some_frames_get_none() -> None:
    grid = Grid(4, 2, 2)
    tokens = Tokens.dense(torch.randn(2, grid.n, 3, generator=torch.Generator().manual_seed(0)), grid)
    out = apply(tokens, Pool().fuse({"t": view(tokens, [2, 5])})["t"])
    assert out.counts().tolist() == [2, 5]
    frames = [sorted({int(o) // 4 for o in row[valid]}) for row, valid in zip(out.origin, out.visual, strict=True)]
    assert frames == [[1, 3], [0, 1, 2, 3]]
    assert torch.allclose(out.x[0, 0], tokens.x[0, 4:8].mean(0), atol=1e-6), "the mean of the frame that got the cell"
