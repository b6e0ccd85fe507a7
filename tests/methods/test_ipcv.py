"""IPCV against plain loops in float64, and restoration by the core."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from meteor_bench.core.apply import apply
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import EncodeView, Layout
from meteor_bench.core.request import Request
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.encode import encode
from meteor_bench.engine.engine import Engine
from meteor_bench.engine.generate import answer
from meteor_bench.methods.dart import Dart
from meteor_bench.methods.ipcv import IPCV
from tests import tiny
from tests.laws.cases import generate, visual_of
from tests.methods.views import ragged, view

GRID, DEPTH = Grid(1, 5, 6), 6
COUNTS = [30, 22]


class Loops:
    """One row's tokens by cell, in float64."""

    def __init__(self, before: dict[int, Tensor], here: dict[int, Tensor], left: int, neighbours: int) -> None:
        changed = {c: float((here[c] - before[c]).norm()) for c in here}
        self.kept = set(sorted(here, key=lambda c: (-changed[c], c))[:left])
        self.here = here
        self.near = {
            c: sorted(self.kept, key=lambda k: (float((here[c] - here[k]).norm()), k))[:neighbours]
            for c in here
            if c not in self.kept
        }

    def rebuilt(self, now: dict[int, Tensor], then: dict[int, Tensor] | None = None) -> dict[int, Tensor]:
        """All cells, those that are out by what their neighbours have changed by."""
        then = self.here if then is None else then
        out = dict(now)
        for c, near in self.near.items():
            out[c] = then[c] + torch.stack([now[k] - then[k] for k in near]).mean(0)
        return out


def by_cell(tokens: Tokens, row: int, values: Tensor | None = None) -> dict[int, Tensor]:
    values = tokens.x if values is None else values
    at = tokens.visual[row].nonzero()[:, 0].tolist()
    return {int(tokens.origin[row, i]): values[row, i].double() for i in at}


def shown(tokens: Tokens, memo: dict[str, Tensor], layer: int, *, inside: bool = False, target: int = 9) -> EncodeView:
    made: EncodeView = view(
        tokens,
        target,
        layout=Layout("independent", {"t": GRID}, {"t": DEPTH}),
        layer=layer,
        inside=inside,
        memo=memo,
        keep=target / GRID.n,
        kind="encode",
    )
    return made


def moved(tokens: Tokens, seed: int) -> Tokens:
    """What a block makes of them, some other numbers; what is tapped besides."""
    g = torch.Generator().manual_seed(seed)
    x = tokens.x + torch.randn(tokens.x.shape, generator=g)
    tap = torch.randn(tokens.x.shape, generator=g)
    return tokens.changed(x=x, deep=tap if tokens.deep is None else torch.cat([tokens.deep, tap], 2))


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize(("target", "inside", "neighbours"), [(9, 0.0, 10), (4, 0.0, 3), (9, 0.5, 2)])
def test_who_stays_and_what_comes_back(target: int, inside: float, neighbours: int, cls: bool) -> None:
    method = IPCV(stable=2, neighbours=neighbours, inside=inside)
    tokens = ragged(COUNTS, GRID, cls=cls)
    tokens = tokens.changed(size=tokens.size.clamp(max=1))
    memo: dict[str, Tensor] = {}

    def ask(now: Tokens, layer: int, at_inside: bool = False) -> Tokens:
        decision = method.encode({"t": shown(now, memo, layer, inside=at_inside, target=target)})["t"]
        memo.update(decision.memo)
        return apply(now, decision)

    before = tokens = ask(moved(tokens, 1), 1)
    here = tokens = ask(moved(tokens, 2), 2)
    assert tokens.counts().tolist() == COUNTS  # attention is still of all of them
    share = inside or target / GRID.n
    loops = [
        Loops(by_cell(before, b), by_cell(here, b), max(1, int(share * n + 1e-9)), neighbours)
        for b, n in enumerate(COUNTS)
    ]
    assert all(row.near for row in loops)
    tokens = ask(moved(tokens, 3), 3, at_inside=True)
    for b, row in enumerate(loops):
        assert set(by_cell(tokens, b)) == row.kept
    for layer in (3, DEPTH):
        now = tokens = moved(tokens, 10 + layer)
        tokens = ask(tokens, layer)
        assert tokens.counts().tolist() == COUNTS and tokens.raster
        assert torch.equal(tokens.group, here.group) and torch.equal(tokens.origin, here.origin)
        assert now.deep is not None and tokens.deep is not None and here.deep is not None
        width = tokens.x.shape[2]
        for b, row in enumerate(loops):
            want, got = row.rebuilt(by_cell(now, b)), by_cell(tokens, b)
            assert got.keys() == want.keys()
            assert all(torch.allclose(got[c], want[c], atol=1e-4) for c in want)
            for part in range(tokens.deep.shape[2] // width):
                cut = slice(part * width, (part + 1) * width)
                # What was tapped while all were there is a token's own; later ones start from its state.
                then = by_cell(here, b, here.deep[..., cut]) if part < here.deep.shape[2] // width else None
                want, got = (
                    row.rebuilt(by_cell(now, b, now.deep[..., cut]), then),
                    by_cell(tokens, b, tokens.deep[..., cut]),
                )
                assert all(torch.allclose(got[c], want[c], atol=1e-4) for c in want)
            if cls:
                assert torch.equal(tokens.x[b, 0], now.x[b, 0])
        if layer < DEPTH:
            tokens = ask(moved(tokens, 4), layer + 1, at_inside=True)
    assert all(value.numel() == 0 for value in memo.values())  # nothing is carried into the language model


def blocks(stable: int) -> dict[str, Any]:
    """What a method of ours makes of the tiny model with one encoder, and a loop over that encoder's blocks."""
    vlm, keep = tiny.build("single"), 0.25
    engine = Engine(vlm, IPCV(stable=stable), TokenBudget(keep))
    (request,) = tiny.requests(1)
    pixels = torch.stack([vlm.processor.look(request.media()).pixels])
    towered = encode(engine, pixels, [request.key])
    return {"vlm": vlm, "pixels": pixels, "tokens": towered.tokens["eye"], "flops": towered.flops[0]["encode.eye"]}


@pytest.mark.parametrize("stable", [0, 1, 2, 3, 7])
def test_the_encoder_runs_as_the_paper_says(stable: int) -> None:
    made = blocks(stable)
    (tower,) = made["vlm"].towers.values()
    x = tower.embed(made["pixels"].flatten(0, 1)).x  # [1, 1 + N, D]
    total = tower.flops_embed(*made["pixels"].shape[-2:]) + tower.flops_finish(x.shape[1] - 1)
    n, k = x.shape[1], 1 + (x.shape[1] - 1) // 4
    states = [x]
    for block in range(2):
        states.append(tower.feed(block, tower.attend(block, states[-1], None, None)))
        total += tower.flops_block(n, n)
    here = {c: states[2][0, c + 1].double() for c in range(n - 1)}
    row = Loops({c: states[1][0, c + 1].double() for c in here}, here, k - 1, 10)
    rows = [0, *(c + 1 for c in sorted(row.kept))]

    def whole(kept: Tensor) -> Tensor:
        cells = row.rebuilt({c: kept[0, 1 + i].double() for i, c in enumerate(sorted(row.kept))})
        return torch.cat([kept[:, :1], torch.stack([cells[c] for c in sorted(cells)]).to(kept.dtype)[None]], 1)

    kept = states[2][:, rows]
    for block in range(2, tower.depth):
        if block < 2 + stable:
            kept = tower.attend(block, whole(kept), None, None)[:, rows]
            total += tower.flops_block(n, k)
        else:
            kept = tower.attend(block, kept, None, None)
            total += tower.flops_block(k, k)
        kept = tower.feed(block, kept)
    assert torch.allclose(made["tokens"].x, whole(kept)[:, 1:], atol=1e-4)
    assert made["flops"] == total


@pytest.mark.parametrize("llm", ["dart", "fastv"])
def test_the_language_model_is_given_every_token_and_ends_with_the_budget(llm: Any) -> None:
    vlm = tiny.build("single")
    (request,) = tiny.requests(1)
    pruned = Engine(vlm, IPCV(llm=llm, llm_layer=1), TokenBudget(0.25))
    (generation,) = generate(pruned, [request])
    trace = generation.trace
    assert trace.towers == {"eye": trace.reference} and trace.fused == trace.reference
    assert trace.llm == [trace.reference] + [trace.target] * (vlm.decoder.depth - 1)
    (dense,) = generate(Engine(vlm, Dart(layer=1), TokenBudget(0.25)), [request])
    assert trace.flops["encode.eye"] < dense.trace.flops["encode.eye"]


def test_where_it_asks() -> None:
    vlm = tiny.build("single")
    ((name, tower),) = vlm.towers.items()
    asked = IPCV().points(vlm, TokenBudget(0.5))
    assert tower.depth == 5
    assert [(p.after[name], p.inside) for p in asked.encode] == [
        (1, False),
        (2, False),
        (3, True),
        (3, False),
        (4, True),
        (4, False),
        (5, True),
        (5, False),
    ]
    assert IPCV().points(vlm, TokenBudget(1.0)).encode == ()
    three = tiny.build("shared")
    assert all(
        three.towers[name].depth > 0 for point in IPCV().points(three, TokenBudget(0.5)).encode for name in point.after
    )


def test_an_encoder_of_few_blocks_is_pruned_before_its_last() -> None:
    three = tiny.build("shared")
    asked = IPCV(block=9).points(three, TokenBudget(0.5)).encode
    depths = {name: tower.depth for name, tower in three.towers.items() if tower.depth > 0}
    assert dict(asked[1].after) == {name: depth - 1 for name, depth in depths.items()}


def test_a_model_without_blocks_is_refused() -> None:
    vlm = tiny.build("shared")
    towers = {name: tower for name, tower in vlm.towers.items() if tower.depth == 0}
    assert towers
    with pytest.raises(UnsupportedError, match="ipcv prunes between"):
        IPCV().points(type(vlm)(**{**vars(vlm), "towers": towers}), TokenBudget(0.5))


@pytest.mark.parametrize("llm", ["dart", "fastv"])
def test_a_layer_that_is_not_there_is_called_as_the_user_did(llm: Literal["dart", "fastv"]) -> None:
    vlm = tiny.build("shared")
    depth = vlm.decoder.depth
    with pytest.raises(UnsupportedError, match=rf"^ipcv with llm_layer={depth} needs .* take at most {depth - 1}$"):
        IPCV(llm=llm, llm_layer=depth).points(vlm, TokenBudget(0.5))
    assert IPCV(llm=llm, llm_layer=depth - 1).points(vlm, TokenBudget(0.5)).decode


def test_two_images_in_a_row_give_what_each_gives_alone() -> None:
    vlm = tiny.build("single")
    asked: list[Request] = tiny.requests(2)
    made = Engine(vlm, IPCV(), TokenBudget(0.3))
    together = visual_of(made, asked).tokens.x
    alone = torch.cat([visual_of(made, [request]).tokens.x for request in asked])
    assert torch.allclose(together, alone, atol=1e-5)
    assert len(answer(made, visual_of(made, asked), range(2), tiny.prompts(vlm, asked), 1)) == 2
