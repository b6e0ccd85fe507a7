"""A merge said by places is the merge said by masks, whatever has merged before."""

from typing import Any

import pytest
import torch

from meteor_bench.core.apply import apply
from meteor_bench.core.cells import densify
from meteor_bench.core.decision import Decision
from meteor_bench.core.decisions import asked_all
from meteor_bench.core.errors import PluginError
from meteor_bench.core.join import join_frames
from meteor_bench.core.seats import Seats, seen
from meteor_bench.core.tokens import Grid, Later, Tokens
from tests.methods.views import view

GRID = Grid(1, 3, 4)


def drawn(n: int, left: int, ordered: bool, draw: torch.Generator, heads: int = 0) -> Seats:
    """Three rows in which some tokens stay, in order or not, and the others end anywhere among them.

    Behind ``heads`` special tokens, of which none moves or takes another in.
    """
    places = torch.empty(3, n, dtype=torch.long)
    for row in places:
        mixed = heads + torch.randperm(n - heads, generator=draw)
        stay = mixed[: left - heads].sort().values if ordered else mixed[: left - heads]
        row[:] = ~torch.randint(heads, left, (n,), generator=draw)
        row[stay] = torch.arange(heads, left)
        row[:heads] = torch.arange(heads)
    return Seats(places, left, ordered, heads)


def by_masks(seats: Seats) -> Decision:
    return Decision(keep=seats.keep(), merge_into=seats.into(), order=seats.order(), total=True)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("heads", [0, 1, 3])
def test_places_merge_as_masks_do(ordered: bool, known: bool, heads: int) -> None:
    draw = torch.Generator().manual_seed(0)
    one = Tokens.dense(torch.randn(3, heads + 12, 5, generator=draw), GRID, heads)
    if not known:  # a merge by masks before it, which says nothing of where tokens stand
        one = apply(one, by_masks(drawn(heads + 12, heads + 10, True, draw, heads)))
    other = one
    for left in (8, 5, 2):
        assert one.heads == heads
        seats = drawn(one.x.shape[1], heads + left, ordered, draw, heads)
        one, other = apply(one, Decision.seated(seats)), apply(other, by_masks(seats))
        assert (seen(one) is not None) == known
        for name in ("x", "size", "origin", "group", "valid", "special", "lengths", "raster", "merged"):
            found, wanted = getattr(one, name), getattr(other, name)
            same: Any = torch.equal(found, wanted) if torch.is_tensor(found) else found == wanted
            assert same, name
        assert torch.equal(densify(one), densify(other))


def test_heads_are_not_believed_where_rows_differ_or_frames_are_joined() -> None:
    tokens = Tokens.dense(torch.randn(3, 13, 5), GRID, 1)
    assert tokens.heads == 1 and apply(tokens, Decision(keep=tokens.origin < 7)).heads == 1
    ragged = apply(tokens, Decision(keep=tokens.origin < torch.tensor([[7], [8], [7]])))
    assert ragged.heads is None and join_frames(tokens, 3).heads is None


def test_what_is_known_of_tokens_is_not_believed_of_others() -> None:
    draw = torch.Generator().manual_seed(0)
    merged = apply(Tokens.dense(torch.randn(3, 12, 5, generator=draw), GRID), Decision.seated(drawn(12, 6, True, draw)))
    assert seen(merged) is not None and seen(merged.with_x(merged.x + 1)) is not None
    assert seen(join_frames(merged, 3)) is None
    assert seen(apply(merged, Decision(keep=torch.arange(6).expand(3, 6) < 3))) is None


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([[1, 0, 2, ~2]], "row 0 moves a special token"),
        ([[0, 1, 2, ~0]], "row 0 moves a special token, or merges into one"),
        ([[0, 1, 2, 2]], "row 0 is not 3 tokens and others that end in them"),
        ([[0, 1, 2, ~3]], "row 0 is not 3 tokens"),
        ([[0, 1, 2]], r"expected int64 \[1, 4\]"),
    ],
)
def test_places_that_are_none_are_told(places: list[list[int]], said: str) -> None:
    shown = view(Tokens.dense(torch.zeros(1, 4, 2), Grid(1, 1, 3), 1), 3)
    decision = Decision(
        keep=Later(lambda: torch.ones(1, 4, dtype=torch.bool)), seats=Seats(torch.tensor(places), 3, True, 1)
    )
    with pytest.raises(PluginError, match=said):
        asked_all(object(), {"t": shown}, lambda _: {"t": decision})
