"""A picture being composed of photographs and glyphs, with the labels that go with it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from scripts.natural.photographs import BACKGROUNDS, Object, Split, background, objects_of
from scripts.natural.words import SIGN, THINGS
from scripts.pocket.canvas import RGB
from scripts.pocket.glyphs import EVAL_FONTS, FONT_DIR, TRAIN_FONTS
from scripts.pocket.sample import CHAR, COLOR, KIND
from scripts.pocket.words import CHARS

PATCH = 14  # pixels of a cell of the labels, and of the ViT
LARGEST = 2.0  # a small photograph is enlarged no further
COVERED = 0.35  # of a cell, so that it is labelled as a thing's
TURN = 15.0  # degrees by which training turns things, at most


class Placed(NamedTuple):
    """A thing where it stands: its class, the raster cell it has to itself, its centre in pixels."""

    what: str
    row: int
    col: int
    x: float
    y: float


class View:
    """A square photograph on which things and strings are set.

    Args:
        side: pixels; a multiple of `PATCH`.
        draw: False keeps the labels only, for training on symbols.
    """

    def __init__(
        self, rng: np.random.Generator, split: Split, side: int, draw: bool, behind: Image.Image | None = None
    ):
        self.rng, self.split, self.side, self.draw = rng, split, side, draw
        self.image = behind if behind is not None else ground(rng, split, side, draw)
        self.labels = np.zeros((6, side // PATCH, side // PATCH), np.int64)

    def thing(self, what: str, size: float, place: tuple[int, int, int, int], cell: tuple[int, int] = (0, 0)) -> Placed:
        """Set a thing of a class somewhere into a place (left, top, width, height), its longer side ``size`` pixels."""
        photograph = varied(chosen(self.rng, self.split, what), self.rng, self.split, self.draw)
        scale = min(LARGEST, size / max(photograph.size)) if self.draw else size / max(photograph.size)
        w, h = (max(2, round(length * scale)) for length in photograph.size)
        left = place[0] + int(self.rng.integers(0, max(place[2] - w, 0) + 1))
        top = place[1] + int(self.rng.integers(0, max(place[3] - h, 0) + 1))
        how = Image.Resampling.LANCZOS if self.draw else Image.Resampling.NEAREST
        return self.paste(photograph.resize((w, h), how), what, left, top, cell)

    def paste(self, small: Image.Image, what: str, left: int, top: int, cell: tuple[int, int]) -> Placed:
        """Set a picture with a mask with its corner there, and label the cells it covers."""
        if self.draw:
            self.image.paste(small, (left, top), small)
        mask = np.zeros((self.side, self.side), np.float32)
        alpha = np.asarray(small.getchannel("A"), np.float32) / 255
        x0, y0, x1, y1 = (
            max(left, 0),
            max(top, 0),
            min(left + small.width, self.side),
            min(top + small.height, self.side),
        )
        mask[y0:y1, x0:x1] = alpha[y0 - top : y1 - top, x0 - left : x1 - left]
        n = self.side // PATCH
        covered = mask.reshape(n, PATCH, n, PATCH).mean((1, 3))
        x, y = left + small.width / 2, top + small.height / 2
        self.labels[KIND][covered > min(COVERED, 0.7 * covered.max())] = 1 + THINGS.index(what)
        return Placed(what, *cell, x, y)

    def string(self, text: str, left: int, middle: int, size: int, ink: tuple[int, int, int], rim: int = 0) -> None:
        """Characters two cells apart from a left edge on, about a middle line, with a rim of so many pixels."""
        around = (0, 0, 0) if ink[0] > 128 else (255, 255, 255)
        fonts = EVAL_FONTS if self.split == "test" else TRAIN_FONTS
        face = font(fonts[int(self.rng.integers(len(fonts)))], size)
        n = self.side // PATCH
        for i, char in enumerate(text):
            x = left + round((i + 0.5) * 2 * PATCH)
            if self.draw:
                ImageDraw.Draw(self.image).text(
                    (x, middle), char, font=face, fill=ink, anchor="mm", stroke_width=rim, stroke_fill=around
                )
            row = max(int((middle - PATCH / 2) // PATCH), 0)
            self.labels[CHAR, row : row + 2, min(x // PATCH, n - 1)] = 1 + CHARS.index(char)

    def sign(self, text: str, color: int, left: int, top: int, size: int, height: int) -> None:
        """A coloured sign with a string on it."""
        tone = np.clip(RGB[color] * self.rng.uniform(0.85, 1.08) + self.rng.uniform(-12, 12, 3), 0, 255)
        width = sign_width(text)
        if self.draw:
            fill = tuple(int(v) for v in tone)
            ImageDraw.Draw(self.image).rounded_rectangle((left, top, left + width - 1, top + height - 1), 4, fill)
        rows = slice(-(-top // PATCH), max((top + height) // PATCH, -(-top // PATCH) + 1))
        cols = slice(-(-left // PATCH), max((left + width) // PATCH, -(-left // PATCH) + 1))
        self.labels[KIND, rows, cols], self.labels[COLOR, rows, cols] = SIGN, 1 + color
        self.string(text, left + PATCH // 2, top + height // 2, size, ink_on(tone, self.rng))

    def ink(self, box: tuple[int, int, int, int]) -> tuple[int, int, int]:
        """Black or white, what stands out from what is in a box."""
        under = np.asarray(self.image.crop(box), np.float32).mean((0, 1)) if self.draw else np.zeros(3, np.float32)
        return ink_on(under, self.rng)


def ground(rng: np.random.Generator, split: Split, side: int, draw: bool) -> Image.Image:
    """A random square of one of a split's photographs; without drawing, nothing."""
    if not draw:
        return Image.new("RGB", (1, 1))
    whole = background(str(rng.choice(BACKGROUNDS[split])))
    cut = int(rng.integers(336, min(whole.size) + 1))
    left, top = (int(rng.integers(0, length - cut + 1)) for length in whole.size)
    image = whole.resize(
        (side, side), Image.Resampling.BILINEAR, box=(left, top, left + cut, top + cut), reducing_gap=2.0
    )
    if split == "train":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image
        image = ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.3))).enhance(
            rng.uniform(0.2, 1.4)
        )
    return image


@cache
def by_class(split: Split) -> dict[str, list[Object]]:
    """A split's photographs of each class."""
    return {what: [one for one in objects_of(split) if one.what == what] for what in THINGS}


def chosen(rng: np.random.Generator, split: Split, what: str) -> Object:
    """One of a class."""
    alike = by_class(split)[what]
    return alike[int(rng.integers(len(alike)))]


@cache
def photograph(of: Object, side: int) -> Image.Image:
    """An object's picture, its longer side so many pixels at most, kept."""
    image = of.picture()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def varied(of: Object, rng: np.random.Generator, split: Split, draw: bool) -> Image.Image:
    """As it is; in training mirrored, turned, and lighter or darker, since there are few photographs.

    Of one that is not drawn the mask alone matters, and not closely.
    """
    if not draw:
        return photograph(of, 4 * PATCH)
    image = photograph(of, 16 * PATCH)
    if split != "train":
        return image
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image
    if rng.random() < 0.6:
        image = image.rotate(rng.uniform(-TURN, TURN), Image.Resampling.BILINEAR, expand=True)
        image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())
    alpha = image.getchannel("A")
    colours = ImageEnhance.Color(ImageEnhance.Brightness(image.convert("RGB")).enhance(rng.uniform(0.7, 1.3)))
    image = colours.enhance(rng.uniform(0.4, 1.4)).convert("RGBA")
    image.putalpha(alpha)
    return image


def sign_width(text: str) -> int:
    """Pixels."""
    return 2 * PATCH * len(text) + PATCH


def ink_on(tone: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int]:
    """Nearly black or nearly white."""
    dark = float(np.asarray(tone, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)) > 118
    level = int(rng.integers(0, 36) if dark else rng.integers(220, 256))
    return level, level, level


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of matplotlib's."""
    return ImageFont.truetype(str(FONT_DIR / name), size)
