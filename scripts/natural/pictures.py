"""Pictures with exact answers: photographs of things at known places on a photograph.

Things do not touch each other: each has a cell of a 2x2 or 3x3 raster to itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from scripts.natural.photographs import BACKGROUNDS, SPLITS, Object, Split, background, objects_of

SIDE = 336  # pixels of a picture
LARGEST = 2.0  # a small photograph is enlarged no further
MOST = {2: 4, 3: 6}  # cells a side -> things


class Thing(NamedTuple):
    """An object where it stands.

    Attributes:
        box: left, top, right, bottom in pixels, tight around what its mask shows.
    """

    of: Object
    box: tuple[int, int, int, int]


class Picture(NamedTuple):
    """A picture and everything that is on it.

    Attributes:
        bare: the same without things.
        background: name of the photograph behind them.
    """

    image: Image.Image
    bare: Image.Image
    background: str
    things: tuple[Thing, ...]


def make(split: Split, seed: int) -> Picture:
    """A picture of a split; the same seed gives the same picture.

    Raises:
        DataError: a package is missing or another one.
    """
    rng = np.random.default_rng([SPLITS.index(split), seed])
    name = str(rng.choice(BACKGROUNDS[split]))
    bare = _cut(background(name), rng)
    raster = int(rng.choice(list(MOST)))
    cells = rng.permutation(raster**2)[: int(rng.integers(1, MOST[raster] + 1))]
    known = objects_of(split)
    # Classes first: they have unequally many photographs.
    classes = rng.choice(sorted({one.what for one in known}), len(cells))
    image, things = bare.copy(), []
    for cell, what in zip(cells, classes, strict=True):
        alike = [one for one in known if one.what == what]
        things.append(_put(image, alike[int(rng.integers(len(alike)))], divmod(int(cell), raster), raster, rng))
    return Picture(image, bare, name, tuple(things))


def _cut(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random square of a photograph."""
    side = int(rng.integers(SIDE, min(image.size) + 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def _put(image: Image.Image, of: Object, cell: tuple[int, int], raster: int, rng: np.random.Generator) -> Thing:
    """Paste an object somewhere in its cell (row, column)."""
    room = SIDE // raster
    photograph = of.picture()
    scale = min(LARGEST, rng.uniform(0.7, 0.95) * room / max(photograph.size))
    size = [max(1, round(length * scale)) for length in photograph.size]
    small = photograph.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    small = small.crop(small.getbbox(alpha_only=True))
    left, top = (at * room + int(rng.integers(0, room - n + 1)) for at, n in zip(cell[::-1], small.size, strict=True))
    image.paste(small, (left, top), small)
    return Thing(of, (left, top, left + small.width, top + small.height))
