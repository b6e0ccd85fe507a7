"""DART against plain loops in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import UnsupportedError
from meteor_bench.core.pruner import View
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.methods.dart import Dart
from tests.methods.views import clustered, ragged, view, visual_indices

GRID = Grid(1, 6, 6)
WORDS = (7, 2, 4)


def seen(tokens: Tokens, target: int, seed: int = 0) -> View:
    """A decode view with keys on everything, rubbish on padding."""
    g = torch.Generator().manual_seed(seed)
    rows, n, dim = tokens.x.shape
    words = torch.tensor(WORDS[:rows])
    valid = torch.arange(7) < words[:, None]
    return view(
        tokens,
        target,
        tower="llm",
        attention=None,
        keys=torch.randn(rows, n, 12, generator=g),
        text=clustered(rows, 7, dim, seed + 5) * valid[..., None],
        text_valid=valid,
        text_keys=torch.randn(rows, 7, 12, generator=g),
    )


def reference(method: Dart, v: View, b: int) -> set[int]:
    at, words = visual_indices(v.tokens, b), WORDS[b]
    target = min(int(v.target[b]), len(at))
    assert v.keys is not None and v.text_keys is not None and v.text is not None

    def norm(keys: Tensor, i: int) -> float:
        return sum(abs(float(value)) for value in keys[b, i].double())

    image = sorted(at, key=lambda i: -norm(v.keys, i))[: min(method.image_pivots, target)]  # type: ignore[arg-type]
    text = sorted(range(words), key=lambda i: -norm(v.text_keys, i))[: method.text_pivots]  # type: ignore[arg-type]
    at_place = {35 + at.index(i): v.tokens.x[b, i] for i in image}
    at_place |= {35 + len(at) + i: v.text[b, i] for i in text}
    # The authors': indices_set = set(image_indices + query_indices); for item in list(indices_set.copy()).
    turns = list(set(list(at_place)).copy()) if method.official_quirks else list(at_place)
    pivots = [at_place[place] for place in turns]
    chosen, left = set(image), target - len(image)
    for number, pivot in enumerate(pivots):
        take = left // len(pivots) + (number < left % len(pivots))
        free = [i for i in at if i not in chosen]
        similar = {i: float(torch.cosine_similarity(pivot.double(), v.tokens.x[b, i].double(), dim=0)) for i in free}
        chosen |= set(sorted(free, key=lambda i: (similar[i], i))[:take])
    return chosen


@pytest.mark.parametrize(
    "method", [Dart(), Dart(official_quirks=True), Dart(image_pivots=2, text_pivots=0), Dart(image_pivots=6)], ids=str
)
@pytest.mark.parametrize("counts", [[36, 36, 36], [36, 20, 1]])
def test_pivots_and_what_is_least_like_them(counts: list[int], method: Dart) -> None:
    for seed, dim in [(0, 8), (1, 24)]:
        tokens = ragged(counts, GRID, dim=dim, seed=seed)
        for target in (1, 3, 9, 20, 36):
            v = seen(tokens, target, seed)
            keep = method.decode(v).keep
            for b in range(3):
                assert {int(i) for i in keep[b].nonzero()[:, 0]} == reference(method, v, b)


def test_the_authors_order_of_pivots_is_written_down() -> None:
    """Image pivots 30, 4 and 0 and the word behind 36 tokens are 65, 39, 35 and 71 of the authors' prompt."""
    x = torch.eye(37)[None]
    x[0, 36] = 0
    keys = torch.zeros(1, 36, 2)
    for place, norm in ((30, 9.0), (4, 8.0), (0, 7.0)):
        keys[0, place] = norm
    order = list(set([65, 39, 35, 71]).copy())
    assert order != [65, 39, 35, 71]
    shy = {65: 10, 39: 11, 35: 12, 71: 13}  # what each pivot likes least
    for place, i in {65: 30, 39: 4, 35: 0}.items():
        x[0, i, shy[place]] = -1.0
    word = torch.zeros(1, 1, 37)
    word[0, 0, shy[71]] = -1.0
    method = Dart(image_pivots=3, text_pivots=1, official_quirks=True)
    for extra in range(1, 5):
        v = view(
            Tokens.dense(x[:, :36], GRID),
            3 + extra,
            keys=keys,
            text=word,
            text_valid=torch.ones(1, 1, dtype=torch.bool),
            text_keys=torch.ones(1, 1, 2),
        )
        kept = {int(i) for i in method.decode(v).keep[0].nonzero()[:, 0]}
        assert kept == {0, 4, 30} | {shy[place] for place in order[:extra]}


def test_a_copy_of_a_pivot_is_the_last_to_be_kept() -> None:
    """What the paper is about: duplicates of a kept token go first."""
    x = clustered(1, 36, 8, 1)
    keys = torch.ones(1, 36, 12)
    keys[0, 5] = 9.0  # the only pivot
    x[0, 11] = x[0, 30] = x[0, 5]
    tokens = Tokens.dense(x, GRID)
    nothing = torch.zeros(1, 1, 8)
    method = Dart(image_pivots=1, text_pivots=0)
    for target in (3, 20, 34):
        keep = method.decode(
            view(
                tokens,
                target,
                keys=keys,
                text=nothing,
                text_valid=torch.zeros(1, 1, dtype=torch.bool),
                text_keys=torch.zeros(1, 1, 12),
            )
        ).keep
        assert int(keep.sum()) == target and keep[0, 5] and not keep[0, 11] and not keep[0, 30]


@pytest.mark.parametrize("side", [16, 24])
def test_budgets_are_exact(side: int) -> None:
    tokens = ragged([side**2] * 2, Grid(1, side, side), dim=6)
    for ratio in (0.5, 0.667, 0.76, 0.778, 0.889, 0.944):
        target = round((1 - ratio) * side**2)
        assert Dart().decode(seen(tokens, target)).keep.sum(1).tolist() == [target] * 2


def test_what_does_not_fit_is_said() -> None:
    model = SimpleNamespace(name="m", decoder=SimpleNamespace(depth=2))
    with pytest.raises(UnsupportedError, match="'m' \\(2 layers\\); take at most 1"):
        Dart().points(model, TokenBudget(0.5))  # type: ignore[arg-type]
