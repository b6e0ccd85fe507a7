"""EvoPrune and METEOR from pixels to the language model's input, against a second implementation.

The second one runs the library's modules in float64, one image at a time, with eager attention and plain loops; it
shares nothing with the engine but the weights.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.fuse import Visual, fuse
from meteor_bench.methods.downsample import Downsample
from meteor_bench.methods.evoprune.method import EvoPrune
from meteor_bench.methods.meteor.method import Meteor
from meteor_bench.methods.shared.schedules import plan
from tests import tiny
from tests.methods.test_evoprune import reference_round

RANKS = [{"a": 9.0, "b": 20.0, "c": 6.0}, {"a": 11.0, "b": 20.0, "c": 7.0}, {"a": 13.0, "b": 20.0, "c": 5.0}]


def run(engine: Engine, pixels: Tensor) -> Visual:
    with torch.inference_mode():
        return fuse(engine, encode(engine, pixels, [f"{i}" for i in range(len(pixels))]))


def halves(layer: Any, h: Tensor) -> tuple[Tensor, Tensor]:
    """Attention half of a library block in float64, and its weights [heads, N, N]."""
    out, weights = layer.self_attn(layer.layer_norm1(h[None]), attention_mask=None)
    return h + out[0], weights[0]


def mlp_half(layer: Any, h: Tensor) -> Tensor:
    return h + layer.mlp(layer.layer_norm2(h))  # type: ignore[no-any-return]


@pytest.mark.parametrize("keep", [0.5, 0.3, 0.2])
@torch.inference_mode()
def test_evoprune_inside_clip(keep: float) -> None:
    vlm = tiny.build("single")
    pixels = tiny.pixels(vlm, tiny.requests(4)[::2])
    method, budget = EvoPrune(), TokenBudget(keep)
    got = run(Engine(vlm, method, budget), pixels)

    modules = tiny.plain("single").modules.double()
    tower = modules["tower"]
    tower.set_attn_implementation("eager")
    target = budget.tokens(48)
    depth = tower.config.num_hidden_layers
    own = tuple(range(1, depth + 1, 2))
    stops = own if plan("skip", own, own, 48, target).reached == target else tuple(range(1, depth + 1))
    schedule = plan("skip", own, stops, 48, target)
    assert schedule.reached == target
    for row, image in enumerate(pixels.double()):
        h = tower.pre_layrnorm(tower.embeddings(image, interpolate_pos_encoding=True))[0]  # [1 + 48, D]
        sizes, origins = [1] * 48, list(range(48))
        for block, layer in enumerate(tower.encoder.layers):
            h, weights = halves(layer, h)
            wanted = schedule.counts[stops.index(block + 1)] if block + 1 in stops else -1
            if wanted >= 0:
                x, n = h[1:], len(sizes)
                received = weights.mean((0, 1))[1:].tolist()
                force = stops.index(block + 1) == schedule.last
                gone = reference_round(method, x, max(0, min(n - wanted, n // 2)), received, force)
                members = {p: [p] + [i for i, j in gone.items() if j == p] for p in range(n) if p not in gone}
                merged = [
                    sum(sizes[i] * x[i] for i in group) / sum(sizes[i] for i in group)  # type: ignore[misc]
                    for group in members.values()
                ]
                origins = [origins[p] for p in members]
                sizes = [sum(sizes[i] for i in group) for group in members.values()]
                h = torch.cat([h[:1], torch.stack(merged)])
            h = mlp_half(layer, h)
        assert len(sizes) == target and sum(sizes) == 48
        assert got.tokens.origin[row].tolist() == origins
        assert got.tokens.size[row].tolist() == sizes
        assert torch.allclose(got.tokens.x[row].double(), modules["mlp"](h[1:]), atol=1e-4)


def least_like_the_mean(x: Tensor, k: int) -> list[int]:
    mean = x.mean(0)
    score = [float(F.cosine_similarity(v, mean, dim=0)) for v in x]
    return sorted(sorted(range(len(x)), key=lambda i: score[i])[:k])


def reference_stage1(
    modules: Any, image: Tensor, totals: list[int], budgets: str
) -> dict[str, tuple[Tensor, list[int]]]:
    """Encoder -> features that are left, and their cells."""
    luma = image.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]
    a, b, c = (modules.towers[name] for name in "abc")
    for tower in (a, c):
        tower.set_attn_implementation("eager")
    x = {
        "a": a.pre_layrnorm(a.embeddings(F.avg_pool2d(image, 2), interpolate_pos_encoding=True))[0],
        "b": b((image * luma).sum(1, keepdim=True)).last_hidden_state.flatten(2)[0].T,
        "c": c.embeddings(image, interpolate_pos_encoding=True)[0],
    }
    special = {"a": 1, "b": 0, "c": 0}
    cells = {name: list(range(len(h) - special[name])) for name, h in x.items()}
    done = dict.fromkeys("abc", 0)
    for point, ends in enumerate([{"a": 1, "b": 0, "c": 1}, {"a": 3, "b": 0, "c": 2}, {"a": 4, "b": 0, "c": 3}]):
        attention: dict[str, Tensor] = {}
        for name, tower in (("a", a), ("c", c)):
            for layer in tower.encoder.layers[done[name] : ends[name]]:
                x[name], weights = halves(layer, x[name])
                x[name] = mlp_half(layer, x[name])
                attention[name] = weights[:, 0, 1:].mean(0) if name == "a" else weights.mean((0, 1))
            done[name] = ends[name]
        weights_of = RANKS[point] if budgets == "rank" else {"a": 64.0, "b": 64.0, "c": 16.0}
        share = TokenBudget.split(totals[point], weights_of, {name: len(own) for name, own in cells.items()})
        for name in "abc":
            if name == "b" and point < 2:
                continue
            s = special[name]
            if point == 2 and name != "b":
                ranked = sorted(range(len(cells[name])), key=lambda i, w=attention[name]: -float(w[i]))  # type: ignore[misc]
                keep = sorted(ranked[: share[name]])
            else:
                keep = least_like_the_mean(x[name][s:], share[name])
            x[name] = torch.cat([x[name][:s], x[name][s:][keep]])
            cells[name] = [cells[name][i] for i in keep]
    x["a"] = x["a"][1:]
    x["c"] = c.post_layernorm(x["c"])
    return {name: (x[name], cells[name]) for name in "abc"}


@pytest.mark.parametrize("budgets", ["rank", "uniform"])
@pytest.mark.parametrize("keep", [0.5, 0.236, 0.1])
@torch.inference_mode()
def test_meteor_stages_1_and_2(keep: float, budgets: str) -> None:
    vlm = tiny.build("independent")
    pixels = tiny.pixels(vlm, tiny.requests(4)[::2])
    method = Meteor(stages=("encode", "fuse"), budgets=budgets)  # type: ignore[arg-type]
    got = run(Engine(vlm, method, TokenBudget(keep), facts={"meteor.ranks": RANKS}), pixels)

    target = TokenBudget(keep).tokens(64)
    power = math.log(144 / (1193 / 1024 * 64)) / math.log(1 / 0.236)
    end = max(144 * keep**power, target)
    totals = [int(144 ** (1 - s / 3) * end ** (s / 3) + 0.5) for s in (1, 2, 3)]
    modules = tiny.small("independent").double()
    for row, image in enumerate(pixels.double()):
        left = reference_stage1(modules, image, totals, budgets)
        z = {name: modules.fusion.project(name, x[None])[0] for name, (x, _) in left.items()}
        scores = []
        for name in "abc":
            for i, token in enumerate(z[name]):
                others = torch.cat([z[other] for other in "abc" if other != name])
                r = float(F.cosine_similarity(token[None], others).sum())
                scores.append((r, name, left[name][1][i], token))
        chosen = sorted(scores, key=lambda s: s[0])[:target]
        shift = {"a": 0, "b": 64, "c": 128}
        want = sorted((shift[name] + cell for _, name, cell, _ in chosen))
        assert got.tokens.origin[row].tolist() == want
        assert {name: int(got.traces[row].towers[name]) for name in "abc"} == {n: len(c) for n, (_, c) in left.items()}


@pytest.mark.parametrize("name", tiny.MODELS)
def test_downsample_takes_the_smallest_grid_that_is_enough(name: str) -> None:
    vlm = tiny.build(name)
    full = vlm.grid(1, *vlm.native)
    for keep in (1.0, 0.76, 0.5, 0.24, 0.1, 0.01):
        budget = TokenBudget(keep)
        target = budget.tokens(vlm.reference(full))
        grid = Downsample().input_grid(vlm, budget, full)
        assert grid is not None
        if grid == full:
            assert keep == 1.0 and name != "independent"
            continue
        pixels = tiny.pixels(vlm, tiny.requests(1))

        def made(h: int, w: int) -> int:
            height, width = vlm.native[0] * h // full.h, vlm.native[1] * w // full.w
            return h * w if name == "shared" else sum(t.grid(height, width).n for t in vlm.towers.values())

        assert made(grid.h, grid.w) >= target
        assert min(grid[1:]) == 1 or made(grid.h - 1, grid.w - 1) < target
        engine = Engine(vlm, Downsample(), budget)
        with torch.inference_mode():
            left = encode(engine, pixels, ["0"])
            assert sum(int(t.counts()[0]) for t in left.tokens.values()) < sum(
                tower.grid(*vlm.native).n for tower in vlm.towers.values()
            )
            assert int(fuse(engine, left).tokens.counts()[0]) == target


@pytest.mark.parametrize("keep", [0.5, 0.24, 0.1])
@torch.inference_mode()
def test_downsample_is_the_library_on_a_smaller_image(keep: float) -> None:
    """The paper's baseline: nothing but a smaller picture, the surplus over the budget pooled away."""
    vlm, budget = tiny.build("single"), TokenBudget(keep)
    pixels = tiny.pixels(vlm, tiny.requests(4)[::2])
    full = vlm.grid(1, *vlm.native)
    grid = Downsample().input_grid(vlm, budget, full)
    assert grid is not None and grid.n < full.n
    got = encode(Engine(vlm, Downsample(), budget), pixels, ["0", "1"]).tokens["eye"]
    size = (vlm.native[0] * grid.h // full.h, vlm.native[1] * grid.w // full.w)
    smaller = F.interpolate(pixels[:, 0], size=size, mode="bilinear", antialias=True)
    tower = tiny.small("single")["tower"]
    want = tower(smaller, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    assert torch.allclose(got.x, want, atol=1e-5)
