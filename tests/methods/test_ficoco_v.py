"""FiCoCo-V against plain loops in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pick import rows_of
from meteor_bench.core.pruner import EncodeView, Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.ficoco_v import FiCoCoV
from meteor_bench.methods.shared.schedules import plan
from tests import tiny
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 5, 6)
ALONE = Layout("independent", {"t": GRID}, {"t": 4})


def shown(tokens: Tokens, target: int, layer: int, cls: bool) -> EncodeView:
    n = tokens.valid.shape[1]
    logits = 2 * torch.randn(len(tokens.x), n, n, generator=torch.Generator().manual_seed(layer))
    made: EncodeView = view(tokens, target, logits=logits, layout=ALONE, has_cls=cls, attention=None)
    return made.changed(inside=True, layer=layer, layers=(3, 4, 4))


def reference(
    method: FiCoCoV, seen: EncodeView, b: int, r: int
) -> tuple[set[int], dict[int, np.ndarray], dict[int, int]]:
    """Sources, what each token that stays becomes, and the best target of each source, all by place."""
    assert seen.logits is not None
    tokens, z = seen.tokens, seen.logits[b].double().numpy()
    at = visual_indices(tokens, b)
    valid = [i for i in range(len(z)) if bool(tokens.valid[b, i])]
    first = np.array([z[0, i] if seen.has_cls else np.mean([z[j, i] for j in valid]) for i in at])
    other = np.array([np.mean([z[i, j] for j in at]) for i in at])
    score = method.local * first / np.linalg.norm(first) - (1 - method.local) * other / np.linalg.norm(other)
    redundancy = dict(zip(at, score, strict=True))
    windows: dict[tuple[int, int], list[int]] = {}
    for i in at:
        row, column = divmod(int(tokens.origin[b, i]), GRID.w)
        windows.setdefault((row // 2, column // 2), []).append(i)
    for members in windows.values() if method.penalty else ():
        low = min(members, key=lambda i: (redundancy[i], i))
        redundancy[low] *= 0.5 if redundancy[low] > 0 else 2
    sources = set(sorted(at, key=lambda i: (redundancy[i], i))[:r])
    stay = [i for i in at if i not in sources]
    x = tokens.x[b].double().numpy()
    total = {t: x[t].copy() for t in stay}
    weight = dict.fromkeys(stay, 1.0)
    best = {}
    for s in sources:
        row = [z[s, t] for t in stay]
        least = np.quantile(row, method.quantile)
        targets = [t for t, value in zip(stay, row, strict=True) if value > least] or [stay[int(np.argmax(row))]]
        mass = math.fsum(math.exp(z[s, t]) for t in targets)
        for t in targets:
            w = math.exp(z[s, t]) / mass
            total[t] += w * x[s]
            weight[t] += w
        best[s] = stay[int(np.argmax(row))]
    return sources, {t: total[t] / weight[t] for t in stay}, best


@pytest.mark.parametrize("cls", [True, False])
@pytest.mark.parametrize("method", [FiCoCoV(), FiCoCoV(quantile=0.7), FiCoCoV(penalty=False, local=0.8)], ids=str)
def test_a_merge_layer(method: FiCoCoV, cls: bool) -> None:
    tokens = ragged([30, 21, 8], GRID, cls=cls)
    for target, layer in [(18, 3), (9, 4), (9, 3)]:
        seen = shown(tokens, target, layer, cls)
        wanted = plan("last", (3, 4), (3, 4), GRID.n, target).counts[layer - 3]
        decision = method.encode({"t": seen})["t"]
        out = apply(tokens, decision)
        assert decision.merge_into is not None
        for b in range(3):
            at = visual_indices(tokens, b)
            r = max(0, min(len(at) - wanted, len(at) // 2))
            sources, becomes, best = reference(method, seen, b, r)
            assert {i for i in at if not decision.keep[b, i]} == sources
            assert {i: int(decision.merge_into[b, i]) for i in sources} == best
            want = torch.tensor(np.stack([becomes[i] for i in at if i not in sources]))
            assert torch.allclose(out.x[b][out.visual[b]].double(), want, atol=1e-5)


def test_images_do_not_touch_each_other() -> None:
    tokens = ragged([30, 25], GRID, cls=True)
    seen = shown(tokens, 12, 3, True)
    assert seen.logits is not None
    both = FiCoCoV().encode({"t": seen})["t"]
    for b in range(2):
        row = torch.tensor([b])
        alone = shown(rows_of(tokens, row), 12, 3, True).changed(logits=seen.logits[b : b + 1])
        again = FiCoCoV().encode({"t": alone})["t"]
        assert torch.equal(again.keep[0], both.keep[b])
        assert again.mix is not None and both.mix is not None
        k = int(again.keep.sum())
        assert torch.allclose(again.mix[0, :k], both.mix[b, :k])


@pytest.mark.parametrize(("depth", "blocks"), [(24, range(13, 25)), (23, range(13, 24)), (4, [3, 4]), (1, [1])])
def test_it_merges_from_the_thirteenth_block_of_clip_on(depth: int, blocks: Sequence[int]) -> None:
    """The authors' code merges in blocks 12 to 23, counted from 0; LLaVA runs all but the last."""
    vlm = tiny.build("single")
    ((_, tower),) = vlm.towers.items()
    tower.depth = depth
    points = FiCoCoV(relax=False).points(vlm, TokenBudget(0.9))
    assert [p.after["eye"] for p in points.encode if p.inside] == list(blocks)


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(UnsupportedError, match="ficoco-v reads attention's logits"):
        FiCoCoV().points(tiny.build("qwen2_5_vl"), TokenBudget(0.5))
