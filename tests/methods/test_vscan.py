"""VScan against plain loops."""

from __future__ import annotations

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.tokens import Grid
from meteor_bench.methods.vscan import VScan, windows
from tests.methods.views import ragged, view, visual_indices

GRID = Grid(1, 8, 8)


def reference(shallow: dict[int, float], last: dict[int, float], k: int, side: int) -> set[int]:
    """Cells that the first stage chooses: k // 2 // 16 of each of 16 windows, then the best of the others."""
    each, chosen = k // 2 // 16, set()
    for row in range(4):
        for col in range(4):
            inside = [c for c in shallow if c // side * 4 // side == row and c % side * 4 // side == col]
            chosen |= set(sorted(inside, key=lambda c: (-shallow[c], c))[:each])
    rest = sorted((c for c in last if c not in chosen), key=lambda c: (-last[c], c))
    return chosen | set(rest[: k - len(chosen)])


@pytest.mark.parametrize("counts", [[64, 64], [64, 37]])
def test_local_and_global_tokens_take_in_the_rest(counts: list[int]) -> None:
    tokens = ragged(counts, GRID, cls=True)
    shallow = torch.rand(2, 65, generator=torch.Generator().manual_seed(5))
    for target in (3, 12, 16, 21):
        seen = view(tokens, target, point=1, memo={"vscan.t": shallow}, seed=target)
        score = VScan().encode({"t": seen})["t"].score
        assert score is not None
        projected = ragged(counts, GRID, dim=6, seed=9)  # the class token has gone
        cells = torch.full((2, 64), -torch.inf)
        for b in range(2):
            at = visual_indices(tokens, b)
            cells[b, tokens.origin[b, at]] = score[b, at]
            projected.origin[b, : len(at)] = tokens.origin[b, at]
        fused = view(projected, target, scores={"t": cells})
        out = apply(projected, VScan().fuse({"t": fused})["t"])
        for b, count in enumerate(counts):
            at = visual_indices(tokens, b)
            one, two = ({int(tokens.origin[b, i]): float(a[b, i]) for i in at} for a in (shallow, seen.attention))
            k = min(3 * target, count)
            want = reference(one, two, k, 8) if k < count else set(one)
            real = out.visual[b]
            assert {int(c) for c in out.origin[b][real]} == want
            features = {int(projected.origin[b, i]): projected.x[b, i].double() for i in range(count)}
            groups: dict[int, list[int]] = {c: [c] for c in want}
            for c in features.keys() - want:
                unit = {w: features[w] / features[w].norm() for w in want}
                groups[max(want, key=lambda w: (float(unit[w] @ features[c]), -w))].append(c)
            for i in range(int(real.sum())):
                mine = groups[int(out.origin[b, i])]
                mean = sum(features[c] for c in mine) / len(mine)
                assert torch.allclose(out.x[b, i].double(), mean, atol=1e-5)  # type: ignore[arg-type]


def test_the_language_model_ranks_by_the_mean_of_the_heads_attention() -> None:
    """As both of the authors' files have it, for LLaVA and for Qwen; the mean of q·k ranks otherwise."""
    g = torch.Generator().manual_seed(2)
    logits = 4 * torch.randn(2, 3, 1, 20, generator=g, dtype=torch.float64)
    tokens = ragged([20, 20], Grid(1, 4, 5))
    attention = logits.softmax(-1)
    keep = VScan().decode(view(tokens, 6, attention=attention, tower="llm")).keep
    for row, heads in zip(keep, attention.tolist(), strict=True):
        mean = [sum(head[0][n] for head in heads) / len(heads) for n in range(20)]
        assert row.nonzero().flatten().tolist() == sorted(sorted(range(20), key=lambda n: -mean[n])[:6])
    other = logits.mean(1)[:, 0].topk(6, dim=1).indices
    assert any(set(row.nonzero().flatten().tolist()) != set(o.tolist()) for row, o in zip(keep, other, strict=True))


def test_windows_are_four_by_four() -> None:
    assert windows(Grid(1, 24, 24)).unflatten(0, (24, 24))[::6, ::6].flatten().tolist() == list(range(16))
    assert windows(Grid(1, 24, 24)).bincount().tolist() == [36] * 16
