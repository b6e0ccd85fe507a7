"""EvoPrune's arithmetic against plain loops in float64."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.pick import rows_of
from meteor_bench.core.pruner import Layout, View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.evoprune.method import EvoPrune
from meteor_bench.methods.shared.schedules import plan
from tests.methods.views import clustered, ragged, view, visual_indices

GRID = Grid(1, 6, 6)
ALONE = Layout("independent", {"t": GRID}, {"t": 4})


def reference_round(method: EvoPrune, x: Tensor, r: int, attention: list[float] | None, force: bool) -> dict[int, int]:
    """{source: goal} of one merge layer on the visual tokens [n, D] of one image."""
    n = x.shape[0]
    v = [row / row.norm() for row in x.double()]
    guarded: set[int] = set()
    if attention is not None:
        quota = max(0, min(int(method.protect * n), n - 2 * r))
        guarded = set(sorted(range(n), key=lambda i: (-attention[i], i))[:quota])
    isolated = dict.fromkeys(range(n), 0.0)
    if method.diversity:
        near = {
            i: sorted(float((v[i] - v[j]).norm()) for j in range(n) if j != i)[: method.neighbours] for i in range(n)
        }
        every = [d for distances in near.values() for d in distances]
        tau = method.temperature or statistics.median_low(every)
        for i, distances in near.items():
            isolated[i] = 1 - sum(math.exp(-(d**2) / tau**2) for d in distances) / len(distances)
    edges = []
    for i in range(0, n, 2):
        best = {}
        for legal in (True, False):
            scores = {
                j: max(0.0, float(v[i] @ v[j])) * math.exp(-method.strength * (isolated[i] + isolated[j]))
                for j in range(1, n, 2)
                if (i not in guarded and j not in guarded) == legal
            }
            if scores:
                best[legal] = max(scores.items(), key=lambda item: item[1])
        if True in best:
            edges.append((0, -best[True][1], i, best[True][0]))
        elif force:
            edges.append((1, -best[False][1], i, best[False][0]))
    return {i: j for _, _, i, j in sorted(edges)[:r]}


def inside_view(tokens: Tokens, target: int, layer: int, seed: int = 0, **more: object) -> View:
    seen = view(tokens, target, seed=seed, layout=ALONE, **more)
    return seen.changed(inside=True, layer=layer, layers=(1, 3, 4))


def merges(method: EvoPrune, seen: View) -> list[dict[int, int]]:
    """{place among the visual tokens: place} of each row's decision."""
    decision = method.encode({"t": seen})["t"]
    assert decision.merge_into is not None
    out = []
    for b in range(decision.keep.shape[0]):
        at = visual_indices(seen.tokens, b)
        gone = [i for i in at if not decision.keep[b, i]]
        out.append({at.index(i): at.index(int(decision.merge_into[b, i])) for i in gone})
    return out


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        EvoPrune(),
        EvoPrune(attention=False),
        EvoPrune(diversity=False),
        EvoPrune(attention=False, diversity=False),
        EvoPrune(neighbours=3, strength=2.5, temperature=0.4),
        EvoPrune(protect=0.6),
    ],
    ids=str,
)
def test_a_merge_layer(method: EvoPrune, cls: bool) -> None:
    for seed, dim in [(0, 8), (1, 16), (2, 5)]:
        tokens = ragged([36, 30, 31], GRID, dim=dim, seed=seed, cls=cls)
        for layer, target in [(1, 20), (3, 20), (1, 14)]:
            seen = inside_view(tokens, target, layer, seed)
            stops = {1: 0, 3: 1}
            found = plan("skip", (1, 3), (1, 3), GRID.n, target)
            got = merges(method, seen)
            for b in range(3):
                at = visual_indices(tokens, b)
                n = len(at)
                r = max(0, min(n - found.counts[stops[layer]], n // 2))
                attention = [float(seen.attention[b, i]) for i in at] if method.attention else None  # type: ignore[index]
                want = reference_round(method, tokens.x[b, at], r, attention, force=layer == 3)
                assert got[b] == want


def test_protected_tokens_are_never_merged() -> None:
    tokens = ragged([36, 33], GRID, cls=True)
    seen = inside_view(tokens, 22, 1)
    for b, row in enumerate(merges(EvoPrune(), seen)):
        at = visual_indices(tokens, b)
        n, r = len(at), len(at) - 29
        quota = min(int(0.25 * n), n - 2 * r)
        guarded = set(sorted(range(n), key=lambda p: -float(seen.attention[b, at[p]]))[:quota])  # type: ignore[index]
        assert row and not guarded & (set(row) | set(row.values()))


def test_too_few_legal_sources_are_carried_and_the_last_layer_is_exact() -> None:
    tokens = ragged([36], GRID)
    attention = torch.zeros(1, 36)
    attention[0, 0::2] = 1.0  # everything in a is guarded first
    method = EvoPrune(protect=1.0)
    first = inside_view(tokens, 24, 1, attention=attention)
    got = merges(method, first)[0]
    # wanted 6; 24 of 36 are guarded, all 18 of a among them
    assert got == {}
    last = inside_view(tokens, 24, 3, attention=attention)
    assert len(merges(method, last)[0]) == 12


def test_even_tokens_merge_into_odd_ones_and_means_are_weighted_by_size() -> None:
    tokens = ragged([36, 20], GRID, cls=True)
    seen = inside_view(tokens, 18, 1)
    decision = EvoPrune().encode({"t": seen})["t"]
    out = apply(tokens, decision)
    for b, row in enumerate(merges(EvoPrune(), seen)):
        at = visual_indices(tokens, b)
        assert all(i % 2 == 0 and j % 2 == 1 for i, j in row.items())
        survivors = [p for p in range(len(at)) if p not in row]
        for k, p in enumerate(survivors):
            members = [at[p]] + [at[i] for i, j in row.items() if j == p]
            weight = tokens.size[b, members].double()
            want = (tokens.x[b, members].double() * weight[:, None]).sum(0) / weight.sum()
            assert torch.allclose(out.x[b, k + 1].double(), want, atol=1e-5)
            assert float(out.size[b, k + 1]) == float(weight.sum())
        assert torch.equal(out.x[b, 0], tokens.x[b, 0])  # the class token


def test_unweighted_mean() -> None:
    tokens = ragged([36], GRID)
    decision = EvoPrune(merge="mean").encode({"t": inside_view(tokens, 18, 1)})["t"]
    out = apply(tokens, decision)
    goal = int(decision.merge_into[0][~decision.keep[0]][0])  # type: ignore[index]
    members = [i for i in range(36) if int(decision.merge_into[0, i]) == goal]  # type: ignore[index]
    want = tokens.x[0, members].mean(0)
    k = int(decision.keep[0, :goal].sum())
    assert torch.allclose(out.x[0, k], want, atol=1e-6)


def test_a_row_does_not_depend_on_its_batch() -> None:
    tokens = ragged([36, 20, 29], GRID, cls=True)
    together = merges(EvoPrune(), inside_view(tokens, 12, 1))
    for b in range(3):
        alone = rows_of(tokens, torch.tensor([b]))
        seen = inside_view(alone, 12, 1, attention=inside_view(tokens, 12, 1).attention[b : b + 1])  # type: ignore[index]
        assert merges(EvoPrune(), seen)[0] == together[b]


def test_rounds_at_the_output_meet_any_target() -> None:
    tokens = ragged([36, 20, 1, 7], GRID, cls=True)
    layout = Layout("independent", {"t": GRID}, {"t": 0})
    for target in (0, 1, 3, 10, 36):
        seen = view(tokens, target, layout=layout, layers=(0,), attention=None)
        out = apply(tokens, EvoPrune().encode({"t": seen})["t"])
        want = [min(target, n) for n in (36, 20, 1, 7)]
        assert out.counts().tolist() == want
        if target > 0:  # nothing is lost, everything is somebody's
            whole = (tokens.size * tokens.visual).sum(1)
            assert torch.equal((out.size * out.visual).sum(1), whole)
            for b in range(4):
                assert torch.allclose(
                    (out.x[b] * (out.size * out.visual)[b][:, None]).sum(0),
                    (tokens.x[b] * (tokens.size * tokens.visual)[b][:, None]).sum(0),
                    atol=1e-3,
                )


def test_shared_groups_of_the_lead_decide() -> None:
    grids = {"a": Grid(1, 4, 4), "b": Grid(1, 4, 4), "c": Grid(1, 2, 2)}
    layout = Layout("shared", grids, {"a": 4, "b": 0, "c": 3})
    group = torch.tensor([[0, 0, 2, 3, 0, 0, 2, 3, 8, 9, 10, 10, 8, 9, 10, 10]])
    x = clustered(1, 16, 6, 3)
    told = {"groups": {"a": group}, "left": {"a": torch.tensor([6])}}
    seen = view(Tokens.dense(x, grids["a"]), 6, tower="fused", layout=layout, **told)
    out = apply(seen.tokens, EvoPrune().fuse({"fused": seen})["fused"])
    assert out.origin.tolist() == [[0, 2, 3, 8, 9, 10]]
    for k, label in enumerate([0, 2, 3, 8, 9, 10]):
        assert torch.allclose(out.x[0, k], x[0, group[0] == label].mean(0), atol=1e-6)


@pytest.mark.parametrize("source", [Grid(1, 8, 8), Grid(1, 2, 2), Grid(1, 4, 6)])
def test_a_lead_on_another_grid_still_gives_the_exact_count(source: Grid) -> None:
    grids = {"a": source, "b": Grid(1, 4, 4)}
    layout = Layout("shared", grids, {"a": 4, "b": 0})
    for target in (1, 5, 11, 16):
        kept = min(target, source.n)
        group = torch.stack([torch.randperm(source.n).clamp(max=kept - 1) for _ in range(2)])
        seen = view(
            Tokens.dense(clustered(2, 16, 6, 3), grids["b"]),
            target,
            tower="fused",
            layout=layout,
            groups={"a": group},
        )
        out = apply(seen.tokens, EvoPrune().fuse({"fused": seen})["fused"])
        assert out.counts().tolist() == [target, target]
        assert out.size.sum(1).tolist() == [16, 16]


def test_a_schedule_that_follows_the_content() -> None:
    """FlowCut's rule in plain float64, one row at a time, with what a layer must remove so that the rest is reached."""
    method, stops, depth, n = EvoPrune(schedule="content"), (1, 3, 5, 7), 8, GRID.n
    layout = Layout("independent", {"t": GRID}, {"t": depth})
    left = set()
    for target, sharpness in itertools.product((20, 9, 3), (0.0, 1.0, 8.0)):
        for here, layer in enumerate(stops):
            tokens = ragged([36, 30], GRID, seed=here, cls=True)
            draw = torch.Generator().manual_seed(here)
            attention = torch.exp(sharpness * torch.randn(tokens.valid.shape, generator=draw))
            seen = view(tokens, target, layout=layout, attention=attention).changed(
                inside=True, layer=layer, layers=(*stops, depth)
            )
            wanted, final = method._wanted(seen, seen.target)
            most = target * 2 ** (len(stops) - 1 - here)
            assert final.tolist() == [layer == 7 or int(n) > most for n in tokens.counts()]
            for b in range(2):
                at = visual_indices(tokens, b)
                mass = [float(attention[b, i]) for i in at]
                share = [m / math.fsum(mass) for m in mass]
                entropy = -math.fsum(p * math.log(p) for p in share)
                ahead = len(stops) - 1 - here
                count = len(at)
                if ahead:
                    r = (count - target) / math.sqrt(ahead) * (1 - (entropy / math.log(count)) ** 2)
                    want = max(target, min(count - math.floor(r + 0.5), target * 2**ahead))
                else:
                    want = target
                assert int(wanted[b]) == want
                left.add(want)
    assert len(left) > 10 and n == 36
    assert EvoPrune(schedule="content", attention=False).layer_point({"t": 1}).attention == "received"
