"""Scenes of coloured shapes: attributes, counts, relations, presence, location, size; and sums of digits on shapes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from scripts.pocket.canvas import Canvas, stray_chars
from scripts.pocket.sample import QA, STEPS, Sample
from scripts.pocket.words import COLORS, CORNERS, SHAPES

# Most questions of one family per picture: training wants variety, a benchmark wants many on one picture.
TRAIN_LIMIT, FULL_LIMIT = 3, 30
RELATIONS = ("left of", "right of", "above", "below")
NEIGHBOURS = ("just left of", "just right of", "just above", "just below")
STEPS_XY = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class Thing:
    shape: int
    color: int
    col: int
    row: int
    x: float
    y: float
    large: bool

    @property
    def name(self) -> str:
        return f"{COLORS[self.color]} {SHAPES[self.shape]}"

    @property
    def place(self) -> str:
        return f"row{self.row + 1} col{self.col + 1}"


def place_things(canvas: Canvas, count: int) -> list[Thing]:
    """Distinct (colour, shape) pairs in distinct cells of a 4x4 grid, so that every thing has a name of its own."""
    rng = canvas.rng
    cells = rng.permutation(16)[:count]
    if count <= 9 and rng.random() < 0.4:  # a compact block, so that things have direct neighbours
        corner = rng.integers(0, 2, 2)
        cells = np.array([(i // 3 + corner[0]) * 4 + i % 3 + corner[1] for i in rng.permutation(9)[:count]])
    shapes = rng.permutation(8)[: rng.integers(4, 9)]
    colors = rng.permutation(8)[: rng.integers(4, 9)]
    if rng.random() < 0.4:  # two colours only: a decoder that looks things up by colour alone fails here
        shapes, colors = rng.permutation(8), colors[:2]
    pairs = [(int(s), int(c)) for s in shapes for c in colors]
    things = []
    for cell, pair in zip(cells, rng.permutation(len(pairs))[:count], strict=True):
        shape, color = pairs[pair]
        large = bool(rng.random() < 0.5)
        size = int(rng.integers(22, 28) if large else rng.integers(13, 17))
        row, col = divmod(int(cell), 4)
        x, y = col * 32 + int(rng.integers(0, 33 - size)), row * 32 + int(rng.integers(0, 33 - size))
        canvas.shape(shape, color, x, y, size, large)
        things.append(Thing(shape, color, col, row, x + size / 2, y + size / 2, large))
    return things


def scene(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    canvas = Canvas(rng, split, draw=draw)
    canvas.textured()
    canvas.clutter(int(rng.integers(4, 16)))
    low = min(6, max_objects) if split != "train" else min(3, max_objects)
    things = place_things(canvas, int(rng.integers(low, max_objects + 1)))
    taken = {(thing.row, thing.col) for thing in things}
    for cell in rng.permutation(16)[: rng.integers(0, 7)]:
        row, col = divmod(int(cell), 4)
        if (row, col) not in taken:  # stray characters between the things
            size = int(rng.integers(13, 17))
            canvas.string(
                stray_chars(rng), col * 32 + int(rng.integers(1, 8)), row * 32 + 16, canvas.ink(canvas.base), size
            )
    limit = TRAIN_LIMIT if split == "train" else FULL_LIMIT
    qas = [qa for make in FAMILIES for qa in make(things, rng, limit)]
    return Sample("scene", canvas.finish(), canvas.labels.cells, qas)


def some(items: list, rng: np.random.Generator, limit: int) -> Iterator:
    return (items[i] for i in rng.permutation(len(items))[:limit])


def colors_and_shapes(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    colors, shapes = [t.color for t in things], [t.shape for t in things]
    for t in some([t for t in things if shapes.count(t.shape) == 1], rng, limit + 1):
        yield QA("color", "pocket_vqa", f"what color is the {SHAPES[t.shape]}?", COLORS[t.color])
    for t in some([t for t in things if colors.count(t.color) == 1], rng, limit - 1):
        yield QA("shape", "pocket_vqa", f"what shape is the {COLORS[t.color]} thing?", SHAPES[t.shape])


def counts(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    """At most one question per count and picture, so that large counts are asked as often as small ones."""
    groups: dict[int, list[int]] = {}
    for color in rng.permutation(8):
        number = sum(t.color == color for t in things)
        if 1 <= number <= 3:
            groups.setdefault(number, []).append(int(color))
    for number in some(sorted(groups), rng, limit - 1):
        color = groups[number][0]
        places = " ".join(t.place for t in sorted(things, key=lambda t: (t.row, t.col)) if t.color == color)
        yield QA("count", "pocket_vqa", f"how many {COLORS[color]} things are there? {STEPS}", str(number), places)


def relations(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    """Yes/no in turn; pairs that share the row or column in question are left out."""
    pairs = [(a, b, axis) for a in things for b in things for axis in (0, 1) if a is not b]
    wanted, made = bool(rng.random() < 0.5), 0
    for a, b, axis in some(pairs, rng, len(pairs)):
        gap = (b.x - a.x, b.y - a.y)[axis]
        if (a.col == b.col, a.row == b.row)[axis] or abs(gap) <= 10:
            continue
        first = gap > 0  # "a is left of b" / "a is above b" holds
        relation = RELATIONS[2 * axis + (first != wanted)]
        chain = f"col{a.col + 1} col{b.col + 1}" if axis == 0 else f"row{a.row + 1} row{b.row + 1}"
        question = f"is the {a.name} {relation} the {b.name}? {STEPS}"
        yield QA("relation", "pocket_gqa", question, "yes" if wanted else "no", chain)
        wanted, made = not wanted, made + 1
        if made == limit:
            return


class OnGrid(Protocol):
    """What stands in a cell."""

    @property
    def col(self) -> int: ...

    @property
    def row(self) -> int: ...


T = TypeVar("T", bound=OnGrid)


def beside(things: Sequence[T], among: Iterable[T]) -> list[tuple[T, int, T]]:
    """One of ``among``, a direction of `STEPS_XY`, and the thing that stands there."""
    at = {(thing.col, thing.row): thing for thing in things}
    return [
        (thing, k, at[thing.col + dx, thing.row + dy])
        for thing in among
        for k, (dx, dy) in enumerate(STEPS_XY)
        if (thing.col + dx, thing.row + dy) in at
    ]


def neighbours(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    for t, k, other in some(beside(things, things), rng, limit):
        asked, answer = ("color", COLORS[other.color]) if rng.random() < 0.5 else ("shape", SHAPES[other.shape])
        question = f"what {asked} is the thing {NEIGHBOURS[k]} the {t.name}? {STEPS}"
        yield QA("neighbour", "pocket_gqa", question, answer, f"{t.place} {other.place}")


def absent_names(things: list[Thing], rng: np.random.Generator, count: int) -> list[str]:
    """Names of absent things, most of them recombining a colour and a shape that are present."""
    present, names = {t.name for t in things}, []
    for _ in range(20 * count):
        near = rng.random() < 0.7
        color = COLORS[things[rng.integers(len(things))].color if near else rng.integers(8)]
        name = f"{color} {SHAPES[things[rng.integers(len(things))].shape if near else rng.integers(8)]}"
        if name not in present and name not in names:
            names.append(name)
        if len(names) == count:
            break
    return names


def article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def presence(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    half = min(len(things), max(limit // 2, 1))
    for name in [t.name for t in some(things, rng, half)]:
        yield QA("presence", "pocket_pope", f"is there {article(name)} {name} in the image?", "yes")
    for name in absent_names(things, rng, half):
        yield QA("presence", "pocket_pope", f"is there {article(name)} {name} in the image?", "no")
    shapes = {t.shape for t in things}
    for k in some(list(range(8)), rng, 1 if limit == TRAIN_LIMIT else 8):
        yield QA("presence", "pocket_pope", f"is there a {SHAPES[k]} in the image?", "yes" if k in shapes else "no")


def places_and_sizes(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    for t in some(things, rng, limit - 1):
        corner = CORNERS[(t.col >= 2) + 2 * (t.row >= 2)]
        yield QA("location", "pocket_seed", f"where is the {t.name}?", corner, options=CORNERS)
    for t in some(things, rng, limit - 1):
        answer = "large" if t.large else "small"
        yield QA("size", "pocket_seed", f"what size is the {t.name}?", answer, options=("small", "large"))


def which_is_there(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    for t in some(things, rng, limit + 1):
        options = absent_names(things, rng, 2)
        options.insert(int(rng.integers(len(options) + 1)), t.name)
        question = f"which thing is in the image? {', '.join(options[:-1])} or {options[-1]}"
        yield QA("which", "pocket_mmbench", question, t.name, options=tuple(options))


def row_or_column(rng: np.random.Generator, name: str, row: int, col: int) -> tuple[str, str]:
    if rng.random() < 0.5:
        return f"which row is {name} in?", f"row{row + 1}"
    return f"which column is {name} in?", f"col{col + 1}"


def helpers(things: list[Thing], rng: np.random.Generator, limit: int) -> Iterator[QA]:
    """Not in any benchmark: they teach the words for rows and columns that the chains are made of.

    Naming a thing by its shape alone, where that is enough, makes shapes keys to look up by; colours become so anyway.
    """
    shapes = [t.shape for t in things]
    for t in some(things, rng, 3):
        name = SHAPES[t.shape] if shapes.count(t.shape) == 1 else t.name
        yield QA("helper", "", *row_or_column(rng, f"the {name}", t.row, t.col))
    for t in some(things, rng, 1):
        asked, answer = ("color", COLORS[t.color]) if rng.random() < 0.5 else ("shape", SHAPES[t.shape])
        yield QA("helper", "", f"what {asked} is at {t.place}?", answer)


FAMILIES = (colors_and_shapes, counts, relations, neighbours, presence, places_and_sizes, which_is_there, helpers)


def sums(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    """Digits 1-4 on circles and squares of distinct colours; the question adds two of them."""
    canvas = Canvas(rng, split, draw=draw)
    canvas.textured()
    canvas.clutter(int(rng.integers(4, 16)))
    count = int(rng.integers(3, min(8, max_objects) + 1)) if max_objects > 3 else 3
    digits: list[tuple[str, int]] = []
    for cell, color in zip(rng.permutation(16)[:count], rng.permutation(8), strict=False):
        row, col = divmod(int(cell), 4)
        size, value = int(rng.integers(23, 28)), int(rng.integers(1, 5))
        x, y = col * 32 + int(rng.integers(0, 33 - size)), row * 32 + int(rng.integers(0, 33 - size))
        rgb = canvas.shape(int(rng.integers(0, 2)), int(color), x, y, size, True)
        canvas.char(str(value), x + size // 2, y + size // 2, canvas.font(), 15, canvas.ink(rgb))
        digits.append((COLORS[color], value))
    qas = []
    pairs = [(a, b) for a in digits for b in digits if a is not b]
    for (a, m), (b, n) in some(pairs, rng, TRAIN_LIMIT if split == "train" else 8):
        options = tuple(str(v) for v in range(2, 9))
        qas.append(
            QA("sum", "pocket_scienceqa", f"what is {a} plus {b}? {STEPS}", str(m + n), f"{m} plus {n} is", options)
        )
    for color, value in some(digits, rng, 2):
        qas.append(QA("helper", "", f"what number is on the {color} thing?", str(value)))
    return Sample("sums", canvas.finish(), canvas.labels.cells, qas)
