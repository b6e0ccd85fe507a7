"""FlowCut against plain loops in float64, block after block."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import EncodeView, Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.flowcut import FlowCut
from tests import tiny
from tests.methods.views import ragged, view, visual_indices

GRID, DEPTH, HEADS, DIM = Grid(1, 5, 6), 8, 3, 4


def shown(tokens: Tokens, target: int, block: int, memo: dict[str, Tensor], cls: bool) -> EncodeView:
    draw = torch.Generator().manual_seed(block)
    rows, n = tokens.valid.shape
    sharp = torch.exp(3 * torch.randn(rows, n, generator=draw))
    made: EncodeView = view(
        tokens,
        target,
        attention=sharp / sharp.sum(1, keepdim=True),
        values=torch.randn(rows, n, HEADS, DIM, generator=draw),
        layout=Layout("independent", {"t": GRID}, {"t": DEPTH}),
        has_cls=cls,
        layer=block,
        memo=memo,
        keep=0.3,
    )
    return made


def reference(seen: EncodeView, b: int, before: dict[int, float], target: int) -> tuple[dict[int, float], set[int]]:
    """S by cell, and the cells that stay."""
    tokens = seen.tokens
    at = visual_indices(tokens, b)
    valid = [i for i in range(tokens.valid.shape[1]) if bool(tokens.valid[b, i])]
    assert seen.values is not None and seen.attention is not None
    v = seen.values[b].double()
    query = v[0] if seen.has_cls else v[at].mean(0)
    meaning = dict.fromkeys(valid, 0.0)
    for h in range(HEADS):
        weight = {i: math.exp(float(query[h] @ v[i, h])) for i in valid}
        for i in valid:
            meaning[i] += weight[i] / math.fsum(weight.values()) / HEADS
    a = {i: float(seen.attention[b, i]) for i in at}
    share = {i: a[i] / math.fsum(a.values()) for i in at}
    whole = math.fsum(meaning[i] for i in at)
    score = {i: (share[i] + meaning[i] / whole) * float(v[i].mean(0).abs().sum()) for i in at}
    cell = {i: int(tokens.origin[b, i]) for i in at}
    flow = {cell[i]: score[i] if not before else 0.5 * before[cell[i]] + 0.5 * score[i] for i in at}
    rem, n = DEPTH - 1 - seen.layer, len(at)
    left = n
    if n > target and rem == 0:
        left = target
    elif n > target and rem % 2 == 0:
        entropy = -math.fsum(p * math.log(p) for p in share.values())
        left = max(target, n - round((n - target) / math.sqrt(rem) * (1 - (entropy / math.log(n)) ** 2)))
    return flow, set(sorted(flow, key=lambda c: (-flow[c], c))[:left])


@pytest.mark.parametrize("cls", [True, False])
@pytest.mark.parametrize("target", [3, 9, 29])
def test_what_leaves_each_block(target: int, cls: bool) -> None:
    counts = [30, 22]
    tokens = ragged(counts, GRID, cls=cls)
    memo: dict[str, Tensor] = {}
    flow: list[dict[int, float]] = [{}, {}]
    lengths = []
    for block in range(1, DEPTH):
        seen = shown(tokens, target, block, memo, cls)
        decision = FlowCut().encode({"t": seen})["t"]
        memo = dict(decision.memo)
        tokens = apply(tokens, decision)
        lengths.append(tokens.counts().tolist())
        for b in range(2):
            flow[b], want = reference(seen, b, flow[b], target)
            assert {int(c) for c in tokens.origin[b][tokens.visual[b]]} == want
    assert lengths[-1] == [min(target, n) for n in counts]
    assert all(len(set(column)) >= 2 for column in zip(*lengths, strict=True)) or target == 29
    end = shown(tokens, target, DEPTH, memo, cls).changed(values=None)
    assert FlowCut().encode({"t": end})["t"].keep.sum(1).tolist() == lengths[-1]


def test_where_it_asks() -> None:
    one = FlowCut().points(tiny.build("single"), TokenBudget(0.5))
    ((name, tower),) = tiny.build("single").towers.items()
    assert [p.after[name] for p in one.encode] == list(range(1, tower.depth + 1))
    assert [p.values for p in one.encode] == [True] * (tower.depth - 1) + [False]
    three = FlowCut().points(tiny.build("shared"), TokenBudget(0.5))
    depths = {name: tower.depth for name, tower in tiny.build("shared").towers.items()}
    assert [dict(p.after) for p in three.encode[-2:]] == [
        {name: depth for name, depth in depths.items() if depth > 0},
        {name: 0 for name, depth in depths.items() if depth == 0},
    ]
    with pytest.raises(UnsupportedError, match=r"no encoder of '.*' gives them"):
        FlowCut().points(tiny.build("qwen2_5_vl"), TokenBudget(0.5))
