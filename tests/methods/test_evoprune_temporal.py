"""Temporal EvoPrune: merges across frames against plain loops in float64, and whole towers against frames run alone."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.frames_apart import apart
from meteor_bench.core.join import join_frames
from meteor_bench.core.pick import pick
from meteor_bench.core.pruner import EncodeView, Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.methods.evoprune.method import EvoPrune
from meteor_bench.methods.shared.schedules import plan
from tests import tiny

GRID, FRAMES, DEPTH = Grid(1, 3, 4), 5, 6
STOPS = (1, 3, 5)


def video(seed: int, specials: int = 1, share: float = 0.8, dim: int = 6) -> Tokens:
    """Two clips whose frames resemble the one before them, some tokens gone, sizes drawn."""
    draw = torch.Generator().manual_seed(seed)
    still = torch.randn(2, 1, GRID.n + specials, dim, generator=draw)
    move = 0.4 * torch.randn(2, FRAMES, GRID.n + specials, dim, generator=draw)
    x = (still + move.cumsum(1)).flatten(0, 1)
    joined = join_frames(Tokens.dense(x, GRID, specials), FRAMES)
    keep = (torch.rand(joined.valid.shape, generator=draw) < share) & joined.visual
    keep[1] &= joined.origin[1] // GRID.n != 1  # a frame without tokens
    left = pick(joined, keep | joined.special)
    size = torch.randint(1, 4, left.valid.shape, generator=draw).float()
    return left.changed(size=torch.where(left.visual, size, 1.0))


def seen_at(layer: int, tokens: Tokens, target: int, seed: int, **memo: Tensor) -> EncodeView:
    draw = torch.Generator().manual_seed(seed + 50)
    attention = torch.rand(tokens.valid.shape, generator=draw)
    return EncodeView(
        tokens=tokens,
        target=torch.full((2,), target),
        reference=torch.full((2,), FRAMES * GRID.n),
        keep=target / (FRAMES * GRID.n),
        layout=Layout("independent", {"t": Grid(FRAMES, *GRID[1:])}, {"t": DEPTH}),
        tower="t",
        attention=attention,
        layer=layer,
        layers=(*STOPS, DEPTH),
        inside=True,
        frames=apart(tokens),
        memo=memo,
    )


def runs(method: EvoPrune, means: dict[int, Tensor]) -> dict[int, int]:
    """Frame -> first place of its run, of frames in order; those without tokens go with the one before."""
    out, start, last = {}, 0, None
    for f in range(FRAMES):
        if f in means:
            if last is None or float(last @ means[f]) < method.alike:
                start = f
            last = means[f]
        if f - start == method.run:
            start = f
        out[f] = start
    return out


def neighbours(start: dict[int, int], there: list[int]) -> dict[int, int]:
    """The second frame of each pair -> the first, of the frames of a run that have tokens."""
    before: dict[int, int] = {}
    for first in set(start.values()):
        alive = [f for f in there if start[f] == first]
        before |= {alive[i]: alive[i - 1] for i in range(1, len(alive), 2)}
    return before


def reference(method: EvoPrune, view: EncodeView, b: int, r: int, *, final: bool) -> dict[int, int]:
    """{place of a merged token: place where it ends} of one clip, by loops over pairs."""
    tokens = view.tokens
    at: dict[int, list[int]] = {}
    for n in range(tokens.x.shape[1]):
        if bool(tokens.visual[b, n]):
            at.setdefault(int(tokens.origin[b, n]) // GRID.n, []).append(n)
    x = {n: tokens.x[b, n].double() for row in at.values() for n in row}
    v = {n: value / value.norm() for n, value in x.items()}
    cell = {n: divmod(int(tokens.origin[b, n]) % GRID.n, GRID.w) for n in x}
    total = len(x)
    guarded: set[int] = set()
    apart_by: dict[int, float] = {}
    for row in at.values():
        part = math.ceil(r * len(row) / total)
        quota = max(0, min(int(method.protect * len(row)), len(row) - 2 * part))
        guarded |= set(sorted(row, key=lambda n: (-float(view.attention[b, n]), n))[:quota])  # type: ignore[index]
        near = {n: sorted(float((v[n] - v[m]).norm()) for m in row if m != n)[: method.neighbours] for n in row}
        every = [d for distances in near.values() for d in distances]
        tau = statistics.median_low(every) if every else 1.0
        for n, distances in near.items():
            apart_by[n] = 1 - sum(math.exp(-(d**2) / tau**2) for d in distances) / max(1, len(distances))

    def score(n: int, m: int) -> float:
        s = max(0.0, float(v[n] @ v[m])) * math.exp(-method.strength * (apart_by[n] + apart_by[m]))
        return s if n not in guarded and m not in guarded else s - 2

    means = {
        f: sum((tokens.size[b, n].double() * x[n] for n in row), torch.zeros(x[row[0]].shape[0]).double())
        for f, row in at.items()
    }
    before = neighbours(runs(method, {f: m / m.norm() for f, m in means.items()}), sorted(at))
    spatial, temporal = {}, {}
    for f, row in at.items():
        for place in range(0, len(row), 2):
            options = [(score(row[place], m), -m) for m in row[1::2]]
            if options:
                spatial[row[place]] = max(options)
        if f in before and view.layer >= method.since * DEPTH:
            for n in row:
                options = [
                    (score(n, m), -m)
                    for m in at[before[f]]
                    if max(abs(cell[n][0] - cell[m][0]), abs(cell[n][1] - cell[m][1])) <= method.reach
                ]
                if options:
                    temporal[n] = max(options)
    nothing = (-math.inf, 0)
    better = [n for n in temporal if temporal[n][0] > spatial.get(n, nothing)[0]]
    taken = sorted(better, key=lambda n: (-temporal[n][0], n))[: int(method.across * r)]
    edges = {n: temporal[n] if n in taken else spatial.get(n, nothing) for n in x}
    least = -2.0 if final else 0.0
    legal = [n for n in edges if edges[n][0] >= least]
    chosen = {n: -edges[n][1] for n in sorted(legal, key=lambda n: (-edges[n][0], n))[:r]}

    def end(n: int) -> int:
        return end(chosen[n]) if n in chosen else n

    return {n: end(n) for n in chosen}


METHODS = [
    EvoPrune(temporal=True),
    EvoPrune(temporal=True, across=1.0, alike=-1.0),
    EvoPrune(temporal=True, across=1.0, alike=-1.0, reach=0, run=2),
    EvoPrune(temporal=True, across=0.5, alike=0.5, reach=3, run=3, protect=0.5),
    EvoPrune(temporal=True, across=1.0, alike=-1.0, since=0.9),
    EvoPrune(temporal=True, across=1.0, alike=-1.0, protect=0.0),
]


@pytest.mark.parametrize("specials", [0, 1])
@pytest.mark.parametrize(
    "method", METHODS, ids=lambda m: f"{m.across}-{m.alike}-{m.reach}-{m.run}-{m.since}-{m.protect}"
)
def test_a_merge_layer(method: EvoPrune, specials: int) -> None:
    across = 0
    for seed, target in [(0, 10), (1, 25), (2, 3)]:
        tokens = video(seed, specials)
        wanted = plan("skip", STOPS, STOPS, FRAMES * GRID.n, target)
        for layer, index in [(1, 0), (3, 1), (5, 2)]:
            view = seen_at(layer, tokens, target, seed)
            decision = method.encode({"t": view})["t"]
            assert decision.merge_into is not None
            out = apply(tokens, decision)
            for b in range(2):
                n = int(tokens.counts()[b])
                r = max(0, min(n - wanted.counts[index], n // 2))
                want = reference(method, view, b, r, final=layer == 5)
                gone = (tokens.visual[b] & ~decision.keep[b]).nonzero()[:, 0].tolist()
                assert {i: int(decision.merge_into[b, i]) for i in gone} == want
                frame = tokens.origin[b] // GRID.n
                across += sum(int(frame[i]) != int(frame[j]) for i, j in want.items())
                assert all(int(frame[j]) <= int(frame[i]) for i, j in want.items())
                # Sizes are carried over, and a merged token is the mean of its members.
                assert float(out.size[b][out.visual[b]].sum()) == float(tokens.size[b][tokens.visual[b]].sum())
                for goal in set(want.values()):
                    members = [goal, *(i for i, j in want.items() if j == goal)]
                    weight = tokens.size[b, members].double()
                    mean = (tokens.x[b, members].double() * weight[:, None]).sum(0) / weight.sum()
                    at = (out.origin[b] == tokens.origin[b, goal]).nonzero()[0, 0]
                    assert torch.allclose(out.x[b, at].double(), mean, atol=1e-5)
    assert (across > 0) == (method.since < 0.9)


def test_runs_are_cut_once_and_remembered() -> None:
    method = EvoPrune(temporal=True, alike=-1.0)
    view = seen_at(3, video(0), 20, 0)
    memo = method.encode({"t": view})["t"].memo
    assert memo["t.run"].tolist() == [[0] * 5] * 2 and memo["t.turn"].tolist() == [[0, 1, 2, 3, 4]] * 2
    apart_now = {"t.turn": memo["t.turn"], "t.run": torch.arange(5).expand(2, 5)}
    later = method.encode({"t": seen_at(3, video(0), 20, 0, **apart_now)})["t"]
    frame = view.tokens.origin // GRID.n
    assert later.merge_into is not None
    gone = view.tokens.visual & ~later.keep
    assert bool((frame.gather(1, later.merge_into.clamp(min=0)) == frame)[gone].all())


def test_the_control_draws_which_frames_are_neighbours() -> None:
    method = EvoPrune(temporal=True, alike=-1.0, turns="shuffled", across=1.0)
    view = seen_at(3, video(3), 20, 0)
    drawn = []
    for seed in range(4):
        generators = [torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 9)]
        memo = method.encode({"t": view.changed(generators=generators)})["t"].memo
        assert [sorted(row) for row in memo["t.turn"].tolist()] == [list(range(FRAMES))] * 2
        drawn.append(memo["t.turn"].tolist())
    assert len({str(row) for row in drawn}) > 1 and method.draws and not EvoPrune(temporal=True).draws


# ---------------------------------------------------------------- whole models


def encoded(model: str, frames: int, keep: float, **options: Any) -> Any:
    vlm = tiny.build(model)
    engine = Engine(vlm, EvoPrune(**options), TokenBudget(keep))
    pixels = torch.stack([vlm.processor.look(r.media()).pixels for r in tiny.requests(2, frames)])
    with torch.inference_mode():
        return vlm, engine, pixels, encode(engine, pixels, ["a", "b"])


def test_on_an_image_nothing_is_different() -> None:
    *_, one = encoded("single", 1, 0.3)
    *_, two = encoded("single", 1, 0.3, temporal=True)
    for name, tokens in one.tokens.items():
        assert torch.equal(tokens.x, two.tokens[name].x)
    assert one.flops == two.flops


def test_a_clips_budget_is_met_whatever_frames_lose() -> None:
    *_, out = encoded("single", 4, 0.25, temporal=True, alike=-1.0, across=1.0)
    (tokens,) = out.tokens.values()
    assert tokens.counts().tolist() == [tokens.grid.n // 4] * 2 and tokens.grid.t == 4
    per_frame = torch.bincount(tokens.origin[0] // (tokens.grid.n // 4), minlength=4)
    assert len(set(per_frame.tolist())) > 1
    assert bool((tokens.group >= 0).all())
    frame = torch.arange(tokens.grid.n) // (tokens.grid.n // 4)
    assert bool((tokens.group[0] // (tokens.grid.n // 4) < frame).any())  # some cell lives in an earlier frame


@pytest.mark.parametrize("keep", [0.3, 0.25])
def test_the_schedule_by_content_needs_no_merges_at_the_output(keep: float) -> None:
    """With neighbours that protection forbids, where each layer has just so many that its rest can be halved to T."""
    *_, out = encoded("single", 4, keep, schedule="content", relax=False)
    (tokens,) = out.tokens.values()
    assert tokens.counts().tolist() == [TokenBudget(keep).tokens(tokens.grid.n)] * 2


@pytest.mark.parametrize(
    ("model", "schedule", "keep"),
    [("single", "skip", 0.25), ("single", "mean", 0.25), ("independent", "increasing", 0.7)],
)
@pytest.mark.parametrize("protect", [0.5, 1.0])
def test_without_relaxing_the_total_is_exact_however_much_is_protected(
    model: str, schedule: Any, keep: float, protect: float
) -> None:
    """Layers that protection leaves short of legal edges do not leave more than those to come can halve to T."""
    asked, vlm = tiny.requests(3), tiny.build(model)
    made = Engine(vlm, EvoPrune(schedule=schedule, protect=protect, relax=False), TokenBudget(keep))
    pixels = torch.stack([vlm.processor.look(request.media()).pixels for request in asked])
    out = encode(made, pixels, [request.key for request in asked])
    target = TokenBudget(keep).tokens(vlm.reference(out.grid))
    assert sum(tokens.counts() for tokens in out.tokens.values()).tolist() == [target] * 3
