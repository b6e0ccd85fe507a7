"""Questions with exact answers about things on a picture, most in the words that the pocket models were taught."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from scripts.natural.view import Placed
from scripts.natural.words import ASKED, COUNTED, KIND_OF, KINDS, PLURALS
from scripts.pocket.sample import QA, STEPS
from scripts.pocket.scenes import NEIGHBOURS, RELATIONS, article, beside, row_or_column, some
from scripts.pocket.words import CORNERS

MOST_COUNTED = 3
# Of classes that are there equally often one is drawn from a list. Its order was a set's once, another in each process;
# with these two, 99 of the first 100 questions are those of results/reference/natural.
FEW = ("flower", "instrument", "fruit", "tool", "mammal", "bird", "vehicle")
MANY = ("instrument", "bird", "fruit", "flower", "mammal", "tool", "vehicle")


def bands(thing: Placed, side: int) -> tuple[int, int]:
    """(row, column) of the four that a thing's centre is in."""
    return min(int(thing.y * 4 / side), 3), min(int(thing.x * 4 / side), 3)


def place(thing: Placed, side: int) -> str:
    """In words."""
    row, col = bands(thing, side)
    return f"row{row + 1} col{col + 1}"


def corner(thing: Placed, side: int) -> str | None:
    """The quarter that a thing is in; None too near to a middle line."""
    if min(abs(thing.x - side / 2), abs(thing.y - side / 2)) < side / 14:
        return None
    return CORNERS[(thing.x > side / 2) + 2 * (thing.y > side / 2)]


def ask(things: Sequence[Placed], side: int, rng: np.random.Generator, limit: int) -> list[QA]:
    """All questions about a scene, at most ``limit`` of a family."""
    names = [thing.what for thing in things]
    single = [thing for thing in things if names.count(thing.what) == 1]
    return [
        *presence(names, rng, limit),
        *relations(single, side, rng, limit),
        *neighbours(things, single, side, rng, limit),
        *counts(things, side, rng, limit),
        *corners(things, single, side, rng, limit),
        *which_is_there(names, rng, limit),
        *helpers(single, side, rng),
    ]


def absent(names: Sequence[str], rng: np.random.Generator, count: int) -> list[str]:
    """Classes that are not there, rather of the kinds that are."""
    kinds = {KIND_OF[name] for name in names}
    weight = np.array([0.0 if t in names else 3.0 if KIND_OF[t] in kinds else 1.0 for t in ASKED])
    count = min(count, int((weight > 0).sum()))
    return [str(name) for name in rng.choice(ASKED, count, replace=False, p=weight / weight.sum())]


def presence(names: Sequence[str], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    there = list(dict.fromkeys(names))
    shown = list(some(there, rng, limit))
    for answer, asked in (("yes", shown), ("no", absent(names, rng, len(shown)))):
        for name in asked:
            yield QA("presence", "natural_pope", f"is there {article(name)} {name} in the image?", answer)


def relations(single: Sequence[Placed], side: int, rng: np.random.Generator, limit: int) -> Iterator[QA]:
    """Yes and no in turn; pairs that are not a quarter of the picture apart are left out."""
    wanted, made = bool(rng.random() < 0.5), 0
    pairs = [(a, b, axis) for a, b in permutations(single, 2) for axis in (0, 1)]
    for a, b, axis in some(pairs, rng, len(pairs)):
        gap = (b.x - a.x, b.y - a.y)[axis]
        at, there = (bands(thing, side)[1 - axis] for thing in (a, b))
        if abs(gap) < side / 4 or at == there:
            continue
        relation = RELATIONS[2 * axis + ((gap > 0) != wanted)]
        word = ("col", "row")[axis]
        question = f"is the {a.what} {relation} the {b.what}? {STEPS}"
        yield QA("relation", "natural_gqa", question, "yes" if wanted else "no", f"{word}{at + 1} {word}{there + 1}")
        wanted, made = not wanted, made + 1
        if made == limit:
            return


def neighbours(
    things: Sequence[Placed], single: Sequence[Placed], side: int, rng: np.random.Generator, limit: int
) -> Iterator[QA]:
    for thing, k, other in some(beside(things, single), rng, limit):
        question = f"what thing is {NEIGHBOURS[k]} the {thing.what}? {STEPS}"
        yield QA("neighbour", "natural_gqa", question, other.what, f"{place(thing, side)} {place(other, side)}")


def counts(things: Sequence[Placed], side: int, rng: np.random.Generator, limit: int) -> Iterator[QA]:
    """One question for each number, so that large ones are asked as often as small ones."""
    there = {thing.what for thing in things}
    order = FEW if len(there) <= 4 else MANY
    names = [*(name for name in order if name in there), *sorted(there - set(order))]
    of_thing = {name: ("count", "natural_seed", PLURALS[name], (name,)) for name in names}
    of_kind = {kind: ("kind_count", "natural_scienceqa", COUNTED[kind], KINDS[kind]) for kind in COUNTED}
    for groups in (of_thing, of_kind):
        numbers: dict[int, list[QA]] = {}
        for family, benchmark, word, members in groups.values():
            mine = sorted((t for t in things if t.what in members), key=lambda t: bands(t, side))
            if 1 <= len(mine) <= MOST_COUNTED:
                chain = " ".join(place(thing, side) for thing in mine)
                question = f"how many {word} are there? {STEPS}"
                numbers.setdefault(len(mine), []).append(QA(family, benchmark, question, str(len(mine)), chain))
        for number in some(sorted(numbers), rng, limit):
            yield numbers[number][int(rng.integers(len(numbers[number])))]


def corners(
    things: Sequence[Placed], single: Sequence[Placed], side: int, rng: np.random.Generator, limit: int
) -> Iterator[QA]:
    """Where is it, what is there, and of what kind is that."""
    for thing in some(list(single), rng, limit):
        if where := corner(thing, side):
            yield QA("location", "natural_seed", f"where is the {thing.what}?", where, options=CORNERS)
    if any(corner(thing, side) is None for thing in things):
        return
    places = [corner(thing, side) for thing in things]
    for thing in some([t for t in things if places.count(corner(t, side)) == 1], rng, limit):
        where = corner(thing, side)
        yield QA("what", "natural_seed", f"what thing is at the {where}?", thing.what)
        question = f"what kind of thing is at the {where}?"
        yield QA("kind", "natural_scienceqa", question, KIND_OF[thing.what], options=tuple(KINDS))


def which_is_there(names: Sequence[str], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    for name in some(sorted(set(names)), rng, limit):
        options = absent(names, rng, 2)
        options.insert(int(rng.integers(len(options) + 1)), name)
        question = f"which thing is in the image? {', '.join(options[:-1])} or {options[-1]}"
        yield QA("which", "natural_mmbench", question, name, options=tuple(options))


def helpers(single: Sequence[Placed], side: int, rng: np.random.Generator) -> Iterator[QA]:
    """In no benchmark: the words for rows and columns that the chains are made of."""
    for thing in some(list(single), rng, 3):
        yield QA("helper", "", *row_or_column(rng, f"the {thing.what}", *bands(thing, side)))
    for thing in some(list(single), rng, 1):
        yield QA("helper", "", f"what thing is at {place(thing, side)}?", thing.what)
