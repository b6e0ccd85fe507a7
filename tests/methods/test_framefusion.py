"""FrameFusion against plain loops in float64, through all its points."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.pruner import Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.framefusion import FrameFusion
from tests.methods.clips import clip, cosine
from tests.methods.views import view

SIDE = 6
Cells = dict[tuple[int, int], Tensor]  # (position, frame) -> hidden state


def reference(
    cells: Cells, target: int, attention: dict[tuple[int, int], float], merges: int
) -> tuple[Cells, list[int]]:
    """What is left after all points, where nothing else changes the hidden states, and how many after each."""
    merging, counts = True, []
    for point in range(merges + 1):
        before = len(cells)
        if before <= target:
            pass
        elif not merging or point == merges:
            best = sorted(cells, key=lambda c: (-attention[c], c[1], c[0]))[:target]
            cells = {c: cells[c] for c in best}
        else:
            line = sorted(cells)
            alike = {b: cosine(cells[a], cells[b]) for a, b in pairwise(line) if a[0] == b[0]}
            goes = {c for c, s in alike.items() if s >= 0.6}
            if len(goes) > before - target:
                goes = set(sorted(alike, key=lambda c: (-alike[c], c))[: before - target])
            chains: dict[tuple[int, int], list[Tensor]] = {}
            head = line[0]
            for c in line:
                head = head if c in goes else c
                chains.setdefault(head, []).append(cells[c])
            cells = {c: torch.stack(mine).mean(0) for c, mine in chains.items()}
            merging = len(goes) >= 0.1 * before
        counts.append(len(cells))
    return cells, counts


@pytest.mark.parametrize(("frames", "target"), [(1, 3), (6, 4), (6, 12), (6, 20), (6, 36)])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_neighbours_merge_then_attention_prunes(frames: int, target: int, shift: float) -> None:
    g = torch.Generator().manual_seed(8)
    x = torch.stack([clip(frames, SIDE, 8, [i // 3 for i in range(frames)], seed) for seed in (1, 2)])
    x[1] += shift * torch.randn(x[1].shape, generator=g)
    grid = Grid(frames, 2, 3)
    tokens = Tokens.dense(x.flatten(1, 2), grid)
    attention = torch.rand(2, grid.n, generator=g)
    method, memo, counts = FrameFusion(), {}, []
    for point in range(-1, 3):
        if point < 0:
            tokens = apply(tokens, method.fuse({"t": view(tokens, target, kind="fuse")})["t"])
            counts.append(tokens.counts().tolist())
            continue
        shown = attention.gather(1, tokens.origin.clamp(min=0))[:, None, None]
        seen = view(
            tokens,
            target,
            attention=torch.cat([shown, 0 * shown], 2),
            text_valid=torch.tensor([[True, False]] * 2),
            tower="llm",
            memo=memo,
            point=point,
            layout=Layout("shared", {"t": grid}, {"t": 4}),
        )
        decision = method.decode(seen)
        memo |= decision.memo
        tokens = apply(tokens, decision)
        counts.append(tokens.counts().tolist())
    for b in range(2):
        cells = {(i % SIDE, i // SIDE): x[b].view(-1, 8)[i].double() for i in range(grid.n)}
        paid = {(i % SIDE, i // SIDE): float(attention[b, i]) for i in range(grid.n)}
        want, numbers = reference(cells, target, paid, 3)
        assert [row[b] for row in counts] == numbers
        assert numbers[-1] == target
        left = {(int(o) % SIDE, int(o) // SIDE): tokens.x[b, i].double() for i, o in enumerate(tokens.origin[b])}
        assert left.keys() == want.keys()
        assert all(torch.allclose(left[c], want[c], atol=1e-5) for c in want)


def test_encoders_are_compared_each_with_itself() -> None:
    """Two encoders of a clip one after another: the same position of both is not the same place."""
    layout = Layout("independent", {"a": Grid(2, 1, 2), "b": Grid(2, 1, 2)}, {"a": 1, "b": 1})
    one, two = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(0))
    memo = {"framefusion.merging": torch.tensor([True])}
    for frames, kept in (((one, two, one, -two), [True] * 8), ((one, one, two, two), [True, True, False, False] * 2)):
        tokens = Tokens.dense(torch.cat(frames)[None], Grid(1, 1, 8))
        seen = view(tokens, 2, tower="llm", kind="decode", layout=layout, memo=memo)
        assert FrameFusion(alike=0.99).decode(seen).keep[0].tolist() == kept
