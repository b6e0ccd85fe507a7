"""Methods of which no code was compared, at their papers' own size: LLaVA-1.5's 576 tokens, 24 x 24, 1024 wide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.pruner import EncodeView, Layout
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.e_adaprune import EAdaPrune
from meteor_bench.methods.fastervlm import FasterVLM
from meteor_bench.methods.oc_vtp import OCVTP
from meteor_bench.methods.shared.slots import ITERATIONS, SlotPruner, feature_block, load_slots
from meteor_bench.methods.svdprune import SVDPrune
from tests import tiny
from tests.methods.views import clustered, view

GRID, WIDTH, DEPTH = Grid(1, 24, 24), 1024, 23  # blocks that LLaVA-1.5 runs of CLIP-L's 24
BUDGETS = (192, 128, 64)


def features(seed: int) -> Tensor:
    """[1, 577, 1024] with a spectrum that falls, a class token first."""
    g = torch.Generator().manual_seed(seed)
    few = clustered(1, 1 + GRID.n, 96, seed)
    return few @ torch.randn(96, WIDTH, generator=g) / 10 + 0.3 * torch.randn(1, 1 + GRID.n, WIDTH, generator=g)


def shown(target: int, **more: object) -> EncodeView:
    tokens = Tokens.dense(features(0), GRID, specials=1)
    layout = Layout("independent", {"t": GRID}, {"t": DEPTH})
    made: EncodeView = view(tokens, target, layout=layout, layer=DEPTH, has_cls=True, keep=target / GRID.n, **more)
    return made


def test_what_the_methods_do_when_nothing_is_said() -> None:
    assert SVDPrune().energy == 0.9
    assert (EAdaPrune().base, EAdaPrune().selector) == ("fastervlm", FasterVLM())
    assert OCVTP().block == -1 and OCVTP(weights="random").draws


@pytest.mark.parametrize("target", BUDGETS)
def test_svdprune_keeps_the_highest_leverages(target: int) -> None:
    seen = shown(target)
    kept = apply(seen.tokens, SVDPrune().encode({"t": seen})["t"])
    x = seen.tokens.x[0, 1:].double()
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    held = (s**2).cumsum(0) / (s**2).sum()
    k = 1 + int((held < 0.9).sum())
    assert 1 < k < GRID.n
    score = (u[:, :k] ** 2).sum(1) / k
    assert float(score.sum()) == pytest.approx(1)
    want = set(score.argsort(descending=True)[:target].tolist())
    assert {int(c) for c in kept.origin[0][kept.visual[0]]} == want


@pytest.mark.parametrize("tau", [0.8, 0.9, 0.99])
def test_e_adaprune_keeps_as_many_as_the_rank_that_holds_the_energy(tau: float) -> None:
    bar = float(torch.log10(torch.tensor(1 - tau, dtype=torch.float64)))
    seen = shown(128, facts={"e-adaprune.threshold": {"t": bar}})
    s = torch.linalg.svdvals(seen.tokens.x[0, 1:].double())
    rank = 1 + int(((s**2).cumsum(0) / (s**2).sum() < tau).sum())
    assert 1 < rank < GRID.n  # of at most 576, fewer than the 1024 dimensions: no scaling
    decision = EAdaPrune().encode({"t": seen})["t"]
    assert int(decision.keep.sum()) == rank
    assert seen.attention is not None
    best = seen.attention[0, 1:].argsort(descending=True)[:rank]
    assert torch.equal(decision.keep[0, 1:].nonzero()[:, 0], best.sort().values)


@pytest.mark.parametrize("target", BUDGETS)
def test_oc_vtp_reads_the_published_block_with_a_slot_for_each_token(target: int) -> None:
    assert feature_block(DEPTH) == feature_block(24) == 9 and ITERATIONS == 3  # the output of block 8, from 0
    pruner = SlotPruner(WIDTH)
    shapes = (pruner.widen.out_features, pruner.narrow.out_features, pruner.up.out_features, pruner.slot_dim)
    assert shapes == (2048, 512, 2048, 512)
    vlm = tiny.build("single")
    ((name, tower),) = vlm.towers.items()
    bound = OCVTP(weights="random").bind(vlm, TokenBudget(0.5))
    assert [dict(p.after) for p in bound.points(vlm, TokenBudget(0.5)).encode] == [
        {name: feature_block(tower.depth)},
        {name: tower.depth},
    ]
    towers = tuple(one._replace(name="t", dim=WIDTH, after=9) for one in bound.towers)
    clip = type(bound)(**{**vars(bound), "towers": towers})
    first = shown(target).changed(point=0, layer=9)
    memo = clip.encode({"t": first})["t"].memo
    (took,) = memo.values()
    slots = load_slots("", "random", towers, "cpu")["t"]
    noise = torch.randn(target, 512, generator=torch.Generator().manual_seed(0))  # as `view` seeds its rows
    x, every = first.tokens.x[:, 1:], torch.ones(1, GRID.n, dtype=torch.bool)
    attention = slots(x, every, noise[None], torch.ones(1, target, dtype=torch.bool)).attention[0]
    own = set(attention.argmax(1).tolist())
    assert {int(i) - 1 for i in took[0].nonzero()[:, 0]} == own and 0 < len(own) < target
    last = shown(target).changed(point=1, memo=memo)
    keep = clip.encode({"t": last})["t"].keep[0, 1:]
    assert int(keep.sum()) == target
    assert last.attention is not None
    fill = [i for i in last.attention[0, 1:].argsort(descending=True).tolist() if i not in own][: target - len(own)]
    assert set(keep.nonzero()[:, 0].tolist()) == own | set(fill)
