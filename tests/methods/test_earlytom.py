"""EarlyTom against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.frames_apart import apart
from meteor_bench.core.join import join_frames
from meteor_bench.core.pruner import EncodeView, Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.earlytom import EarlyTom
from meteor_bench.methods.shared.whole_frames import Merge, merges
from tests import tiny
from tests.methods.clips import clip
from tests.methods.views import view

GRID, DEPTH = Grid(1, 3, 4), 6


def likeness(a: Tensor, b: Tensor) -> float:
    """Mean cosine of tokens [P, D] at the same place."""
    return float(torch.cosine_similarity(a.double(), b.double(), dim=-1).mean())


def runs(frames: list[Tensor], method: EarlyTom) -> list[list[int]]:
    """The authors' walk."""
    found, start, average = [], 0, 1.0
    for i in range(1, len(frames)):
        average = method.memory * likeness(frames[start], frames[i]) + (1 - method.memory) * average
        if average < method.threshold or i - start + 1 >= method.window:
            found.append(list(range(start, i)))
            start, average = i, 1.0
    return [*found, list(range(start, len(frames)))]


def reference(frames: list[Tensor], method: EarlyTom, spare: float = math.inf) -> dict[int, Tensor]:
    """First frame of each that is left -> its tokens, by the authors' loop."""
    out = dict(enumerate(frames))
    for run in runs(frames, method):
        middle = run[1:-1]
        if len(middle) < 2:
            continue
        ends = likeness(frames[run[0]], frames[run[-1]])
        i = 0
        while i < len(middle) - 1:
            now = likeness(frames[middle[i]], frames[middle[i + 1]])
            after = likeness(frames[middle[i + 1]], frames[middle[i + 2]]) if i + 2 < len(middle) else 0.0
            if now > ends and now > after and spare > 0:
                w = now / (now + after) if i + 2 < len(middle) else 1.0
                out[middle[i]] = w * frames[middle[i]] + (1 - w) * frames[middle[i + 1]]
                del out[middle[i + 1]]
                spare -= 1
                i += 2
            else:
                i += 1
        if method.official_quirks and i == len(middle) - 1 and spare > 0:
            del out[middle[-1]]
            spare -= 1
    return out


def shown(x: Tensor, specials: int, keep: float) -> EncodeView:
    """Two clips of frames [2, F, specials + P, D] on their way."""
    frames = x.shape[1]
    tokens = join_frames(Tokens.dense(x.flatten(0, 1), GRID, specials), frames)
    total = frames * GRID.n
    return EncodeView(
        tokens=tokens,
        target=torch.full((2,), round(keep * total)),
        reference=torch.full((2,), total),
        keep=keep,
        layout=Layout("independent", {"t": Grid(frames, *GRID[1:])}, {"t": DEPTH}),
        tower="t",
        layer=2,
        layers=(2, 5, 6),
        frames=apart(tokens),
    )


def clips(frames: int, specials: int, seed: int) -> Tensor:
    scenes = [[i // 9 for i in range(frames)], [i // 5 % 2 for i in range(frames)]]
    rows = [clip(frames, GRID.n + specials, 8, scene, seed + i) for i, scene in enumerate(scenes)]
    return torch.stack(rows)


@pytest.mark.parametrize("specials", [0, 1])
@pytest.mark.parametrize("method", [EarlyTom(), EarlyTom(official_quirks=True), EarlyTom(threshold=0.2, window=20)])
def test_frames_that_merge(method: EarlyTom, specials: int) -> None:
    merged = 0
    for seed, keep in [(0, 0.05), (3, 0.05), (5, 0.4)]:
        x = clips(16, specials, seed)
        seen = shown(x, specials, keep)
        out = apply(seen.tokens, method.encode({"t": seen})["t"])
        for b in range(2):
            frames = list(x[b, :, specials:])
            spare = 16 - math.ceil(16 * min(1.0, 2 * int(seen.target[b]) / int(seen.reference[b])))
            want = reference(frames, method, spare)
            merged += 16 - len(want)
            found = out.x[b][out.visual[b]].reshape(-1, GRID.n, 8)
            assert [int(o) // GRID.n for o in out.origin[b][out.visual[b]][:: GRID.n]] == list(want)
            assert torch.allclose(found, torch.stack(list(want.values())), atol=1e-5)
            assert int(out.special[b].sum()) == 16 * specials
    assert merged > 0


def test_a_second_merge_goes_on_from_the_first() -> None:
    x = clips(16, 0, 1)
    method = EarlyTom(threshold=0.1, window=20)
    seen = shown(x, 0, 0.05)
    once = apply(seen.tokens, method.encode({"t": seen})["t"])
    again = apply(once, method.encode({"t": seen.changed(tokens=once, frames=apart(once), layer=5)})["t"])
    for b in range(2):
        left = reference(list(x[b]), method)
        at, frames = list(left), list(left.values())
        twice = reference(frames, method)
        cells = again.origin[b][again.visual[b]]
        assert [int(c) // GRID.n for c in cells[:: GRID.n]] == [at[i] for i in twice]
        found = again.x[b][again.visual[b]].reshape(-1, GRID.n, 8)
        assert torch.allclose(found, torch.stack(list(twice.values())), atol=1e-5)


@pytest.mark.parametrize("specials", [0, 1])
@pytest.mark.parametrize("method", [EarlyTom(threshold=0.2, window=20), EarlyTom(official_quirks=True)])
def test_the_last_merge_leaves_attention_and_the_ends_of_runs(method: EarlyTom, specials: int) -> None:
    n = GRID.n
    x = clips(16, specials, 3)
    seen = shown(x, specials, 0.05)
    attention = torch.rand(seen.tokens.valid.shape, generator=torch.Generator().manual_seed(5))
    last = seen.changed(layer=5, attention=attention)
    decision = method.encode({"t": last})["t"]
    out = apply(seen.tokens, decision)
    plain = apply(seen.tokens, method.encode({"t": seen})["t"])
    assert torch.equal(out.x, plain.x) and torch.equal(out.origin, plain.origin)
    end = last.changed(tokens=out, layer=DEPTH, attention=None, memo=decision.memo)
    score = method.score(end)
    for b in range(2):
        frames, received = list(x[b, :, specials:]), attention[b][seen.tokens.visual[b]].reshape(16, n)
        left = reference(frames, method)
        # Attention is one more feature, which merges as the others do but is not looked at.
        merged = weights(frames, method)
        middle = {i for run in runs(list(left.values()), method) for i in run[1:-1]}
        found = score[b][out.visual[b]].reshape(-1, n)
        for i, f in enumerate(left):
            w, other = merged.get(f, (1.0, f))
            want = w * received[f] + (1 - w) * received[other] + (i not in middle)
            assert torch.allclose(found[i].double(), want.double(), atol=1e-6)
    assert float(score[~out.visual].abs().sum()) == 0


def weights(frames: list[Tensor], method: EarlyTom) -> dict[int, tuple[float, int]]:
    """What a frame that takes in another counts itself, and which one that is."""
    found = {}
    for f, tokens in reference(frames, method).items():
        if not torch.equal(tokens, frames[f]):
            step, change = frames[f + 1] - frames[f], tokens - frames[f]
            found[f] = (1 - float((change * step).sum() / (step * step).sum()), f + 1)
    return found


def test_tokens_of_the_frames_that_are_left() -> None:
    method, frames, n = EarlyTom(threshold=0.3), 12, GRID.n
    x = clips(frames, 0, 7).flatten(1, 2)
    tokens = Tokens.dense(x, Grid(frames, *GRID[1:]))
    salience = torch.rand(2, frames * n, generator=torch.Generator().manual_seed(1))
    said = {0: {1, 2, 7}, 1: {4, 5, 6, 8}}  # what the encoder told are middles, and no other
    told = salience + torch.tensor([[f not in said[b] for f in range(frames) for _ in range(n)] for b in range(2)])
    for total, recut in [(5, True), (40, True), (100, True), (5, False), (40, False), (100, False)]:
        share = torch.tensor([total, total])
        scores = {"other": salience} if recut else {"t": told}
        seen = view(tokens, total, kind="fuse", groups={}, scores=scores)
        keep = method.choose(seen, salience if recut else told, share).keep
        assert keep.sum(1).tolist() == [total, total]
        for b in range(2):
            parts = list(x[b].reshape(frames, n, -1))
            middle = {f for run in runs(parts, method) for f in run[1:-1]} if recut else said[b]
            assert middle
            for f in range(frames):
                k = total // frames + (f < total % frames)
                row = salience[b, f * n : (f + 1) * n].tolist()
                if f in middle:
                    sizes = [n // k + (i < n % k) for i in range(k)] if k else []
                    begins = [sum(sizes[:i]) for i in range(k)]
                    want = {max(range(a, a + s), key=lambda i: row[i]) for a, s in zip(begins, sizes, strict=True)}
                else:
                    want = set(sorted(range(n), key=lambda i: -row[i])[:k])
                assert set(keep[b, f * n : (f + 1) * n].nonzero()[:, 0].tolist()) == want


def test_an_image_merges_nothing_and_is_no_runs_middle() -> None:
    seen = shown(clips(1, 0, 0), 0, 0.3).changed(frames=None)
    decision = EarlyTom().encode({"t": seen})["t"]
    assert apply(seen.tokens, decision) is seen.tokens and decision.memo == {}
    attention = torch.rand(2, GRID.n, generator=torch.Generator().manual_seed(0))
    last = EarlyTom().encode({"t": seen.changed(layer=5, attention=attention)})["t"]
    (told,) = last.memo.values()
    assert torch.equal(told, attention + 1) and apply(seen.tokens, last) is seen.tokens


def test_where_it_asks() -> None:
    vlm = tiny.build("shared")
    depths = {name: tower.depth for name, tower in vlm.towers.items()}
    *first, last, end = EarlyTom().points(vlm, TokenBudget(0.3)).encode
    assert last.attention == "received" and all(step.attention is None for step in first)
    assert dict(last.after) == {name: depth - 1 for name, depth in depths.items() if depth > 0}
    assert dict(end.after) == depths and end.attention == "received"  # for the one without blocks, which has none
    assert EarlyTom().points(tiny.build("single"), TokenBudget(0.3)).encode[-1].attention is None


@pytest.mark.parametrize("quirks", [True, False])
def test_late_in_the_language_model_what_goes_joins_what_stays(quirks: bool) -> None:
    """Newcomers in the order of the sequence; in the authors' code each of them halves what is there."""
    tokens = Tokens.dense(torch.randn(1, 24, 6, generator=torch.Generator().manual_seed(3)), Grid(2, 3, 4))
    attention = torch.rand(1, 2, 1, 24, generator=torch.Generator().manual_seed(4))
    out = apply(tokens, EarlyTom(official_quirks=quirks).decode(view(tokens, 5, attention=attention, tower="llm")))
    x = tokens.x[0].double()
    kept = sorted(attention[0].mean(0)[0].argsort(descending=True)[:5].tolist())
    said = {i: [x[i]] for i in kept}
    for i in set(range(24)) - set(kept):
        said[max(kept, key=lambda k: float(torch.cosine_similarity(x[i], x[k], dim=0)))].append(x[i])
    for k, row in zip(kept, out.x[0].double(), strict=True):
        want = torch.stack(said[k]).mean(0)
        if quirks:
            want = said[k][0]
            for newcomer in said[k][1:]:
                want = (want + newcomer) / 2
        assert torch.allclose(row, want, atol=1e-5)


@pytest.mark.parametrize(("after", "weight"), [(0.2, 0.6), (0.0, 1.0), (-0.1, 1.0), (-0.3, 1.0)])
def test_a_weight_is_one_of_a_mean(after: float, weight: float) -> None:
    """Whatever the next two frames are like, opposites (likenesses with the sum 0) among them."""
    alike = [[-0.5] * 5 for _ in range(5)]
    alike[1][2], alike[2][3] = 0.3, after
    assert merges(alike, range(5), lose=False) == [Merge(1, 2, pytest.approx(weight))]
