"""The natural model's vocabulary: the pocket models' ids stay, and everything asked is in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.natural.questions import ask
from scripts.natural.view import Placed
from scripts.natural.words import KIND_OF, PLURALS, SIGN, THINGS, label_words, vocabulary
from scripts.natural.world import BENCHMARK_KINDS, FAMILIES, FAMILY_BENCHMARK
from scripts.pocket import words
from scripts.pocket.sample import CHAR, COLOR, KIND, QA
from scripts.pocket.words import check_known, write_tokenizer

SIDE = 224


def test_the_pocket_models_words_keep_their_ids() -> None:
    vocab = vocabulary()
    assert words.vocabulary().items() < vocab.items()
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert {*THINGS, *PLURALS.values(), *KIND_OF.values()} <= vocab.keys()


def test_labels_are_said_in_words(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json", vocabulary())
    tokenizer = PocketTokenizer(tmp_path / "tokenizer.json")
    table = label_words(tokenizer)
    assert [tokenizer.decode([int(table[KIND, 1 + i])]) for i in range(len(THINGS))] == list(THINGS)
    assert tokenizer.decode([int(table[KIND, SIGN])]) == "sign"
    assert tokenizer.decode([int(table[COLOR, 2])]) == words.COLORS[1]
    assert tokenizer.decode([int(table[CHAR, 11])]) == "A"


def things(rng: np.random.Generator) -> list[Placed]:
    """In some cells of 2x2 or 3x3, a thing in the middle of each."""
    raster = int(rng.integers(2, 4))
    cells = rng.permutation(raster**2)[: int(rng.integers(2, 2 * raster + 1))]
    room = SIDE / raster
    places = [divmod(int(cell), raster) for cell in cells]
    return [
        Placed(str(rng.choice(THINGS[2:8])), row, col, (col + 0.5) * room, (row + 0.5) * room) for row, col in places
    ]


def truth(qa: QA, shown: list[Placed]) -> str:
    """The answer to a question, found by its words alone."""
    said = qa.question.removesuffix(" step by step").rstrip("?").replace(",", "").split()
    at = {thing.what: thing for thing in shown}
    named = [word for word in said if word in THINGS]
    if qa.family == "presence":
        return "yes" if named[0] in at else "no"
    if qa.family == "relation":
        a, b = (at[name] for name in named)
        holds = {"left": a.x < b.x, "right": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}
        return "yes" if next(holds[word] for word in said if word in holds) else "no"
    if qa.family == "neighbour":
        thing = at[named[0]]
        step = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}
        down, right = next(step[word] for word in said if word in step)
        return next(t.what for t in shown if (t.row, t.col) == (thing.row + down, thing.col + right))
    if qa.family == "count":
        return str(sum(PLURALS[thing.what] == said[2] for thing in shown))
    if qa.family == "kind_count":
        return str(sum(f"{KIND_OF[thing.what]}s" == said[2] for thing in shown))
    if qa.family == "which":
        (there,) = [name for name in named if name in at]
        return there
    if qa.family == "location":
        thing = at[named[0]]
        return f"{'top' if thing.y < SIDE / 2 else 'bottom'}-{'left' if thing.x < SIDE / 2 else 'right'}"
    vertical, horizontal = said[-1].split("-")
    (thing,) = [
        t for t in shown if (t.y < SIDE / 2) == (vertical == "top") and (t.x < SIDE / 2) == (horizontal == "left")
    ]
    return KIND_OF[thing.what] if qa.family == "kind" else thing.what


@pytest.mark.parametrize(
    "family",
    [f for f in FAMILIES if FAMILY_BENCHMARK.get(f) in [b for b, kind in BENCHMARK_KINDS.items() if kind == "scene"]],
)
def test_answers_are_what_their_words_say(family: str) -> None:
    vocab, seen = vocabulary(), set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shown = things(rng)
        for qa in ask(shown, SIDE, rng, 6):
            check_known(f"{qa.question} {qa.target}", vocab)
            if qa.family == family:
                assert qa.answer == truth(qa, shown), qa
                seen.add(qa.answer)
    assert len(seen) > 1
