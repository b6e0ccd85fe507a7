"""What pictures are made of: photographs with alpha masks out of Tux Paint's stamps, photographs out of wallpapers.

Train, calibration and test are apart by picture: of the objects all that have one name (`apple_fuji`, `apple_red`,
mirrored ones) are in one split, and no background is in two.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from scripts.natural.debian import FOLDER, STAMPS, WALLPAPERS, unpacked

Split = Literal["train", "calibration", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Folder of stamps -> what is in it. Those with too few photographs for three splits are left out.
CLASSES = {
    "animals/birds": "bird",
    "animals/fish": "fish",
    "animals/insects": "insect",
    "animals/mammals": "mammal",
    "food/fruit": "fruit",
    "food/vegetables": "vegetable",
    "hobbies/music": "instrument",
    "household/tools": "tool",
    "plants/flowers": "flower",
    "sports": "ball",
    "symbols/money/canadian/coins": "coin",
    "vehicles": "vehicle",
}
DRAWN = {"cartoon", "toys", "plastic"}  # folders
COLOURS = 300  # a drawing has fewer, of 32 levels a channel
SMALLEST = 75  # pixels of the longer side
# Names that begin so are in a folder of CLASSES and are none of what it is said to hold.
OTHERS = ("brown_slug", "lobster", "rugby", "shrimp", "tennis_racket", "trophy", "woodlouse")
# Left out are two photographs of boats and of what may pass for a flower: answers would not be exact.
BACKGROUNDS: Mapping[Split, tuple[str, ...]] = {
    "train": ("ColorfulCups", "FallenLeaf", "Grey", "Kite"),
    "calibration": ("BytheWater", "DarkestHour"),
    "test": ("ColdRipple", "Path", "summer_1am"),
}


class Object(NamedTuple):
    """A photograph with an alpha mask.

    Attributes:
        what: its class.
        group: its class and the first word of its name; one group is in one split.
        caption: the package's own, in English.
    """

    what: str
    group: str
    caption: str
    path: Path

    def picture(self) -> Image.Image:
        """RGBA, cut to what its mask shows."""
        image = _opened(self.path, "RGBA")
        return image.crop(image.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())


def objects(folder: Path) -> list[Object]:
    """All photographs of the classes in a folder of stamps."""
    found = []
    for place, what in CLASSES.items():
        for path in sorted((folder / place).rglob("*.png")):
            inside = path.relative_to(folder).parts
            name = path.stem.lower()
            if not DRAWN.isdisjoint(inside) or name.startswith(OTHERS) or not _is_photograph(path):
                continue
            word = next(iter(re.findall(r"[a-z]+", name)), name)
            found.append(Object(what, f"{what}/{word}", _caption(path.with_suffix(".txt")), path))
    return found


def _is_photograph(path: Path) -> bool:
    image = _opened(path, "RGBA")
    if max(image.size) < SMALLEST:
        return False
    pixels = np.asarray(image).reshape(-1, 4).astype(np.int32)
    red, green, blue = pixels[pixels[:, 3] > 200, :3].T >> 3
    return np.count_nonzero(np.bincount(red << 10 | green << 5 | blue)) >= COLOURS


def _opened(path: Path, mode: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert(mode)


def _caption(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].strip() if path.is_file() else ""


def divided(found: Sequence[Object]) -> dict[Split, list[Object]]:
    """Every fourth group of a class is for the test, every seventh of the rest for calibration, in an order by chance.

    The order hangs on the names alone, so that a photograph more or less moves few others.
    """
    parts: dict[Split, list[Object]] = {split: [] for split in SPLITS}
    for what in dict.fromkeys(one.what for one in found):
        groups = sorted({one.group for one in found if one.what == what}, key=_chance)
        test = set(groups[: max(1, len(groups) // 4)])
        calibration = set(groups[len(test) : len(test) + max(1, len(groups) // 7)])
        for one in found:
            if one.what == what:
                in_test, in_calibration = one.group in test, one.group in calibration
                parts["test" if in_test else "calibration" if in_calibration else "train"].append(one)
    return parts


def _chance(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@cache
def objects_of(split: Split, folder: Path = FOLDER) -> tuple[Object, ...]:
    """A split's objects.

    Raises:
        DataError: see `unpacked`.
    """
    return tuple(_all(folder)[split])


@cache
def _all(folder: Path) -> dict[Split, list[Object]]:
    return divided(objects(unpacked(STAMPS, folder) / "usr" / "share" / "tuxpaint" / "stamps"))


@cache
def background(name: str, folder: Path = FOLDER) -> Image.Image:
    """A photograph of the wallpapers, RGB, its shorter side 800 pixels.

    Raises:
        DataError: see `unpacked`.
    """
    place = unpacked(WALLPAPERS, folder) / "usr" / "share" / "wallpapers" / name / "contents" / "images"
    image = _opened(max(place.iterdir()), "RGB")
    scale = 800 / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
