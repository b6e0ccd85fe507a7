"""A picture being drawn: background, clutter, shapes, strings, and the labels that go with them."""

import numpy as np

from scripts.pocket.glyphs import EVAL_FONTS, TRAIN_FONTS, glyph_mask, shape_mask
from scripts.pocket.sample import CELL, COLOR, GRID, KIND, PLATE, Labels
from scripts.pocket.words import LETTERS, SHAPES

RGB = np.array(
    [
        [215, 40, 40],
        [40, 165, 55],
        [45, 70, 215],
        [235, 215, 50],
        [125, 45, 165],
        [240, 135, 25],
        [50, 205, 215],
        [245, 150, 195],
    ],
    np.float32,
)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
TRAIN_TEXTURES = ("blocks", "gradient", "stripes")
EVAL_TEXTURES = (*TRAIN_TEXTURES, "checker", "waves")


class Canvas:
    """Float pixels [size, size, 3]; with `draw=False` only the labels are kept (symbolic training)."""

    def __init__(self, rng: np.random.Generator, split: str, size: int = 128, draw: bool = True) -> None:
        self.rng, self.split, self.size, self.draw = rng, split, size, draw
        self.labels = Labels(size // CELL)
        self.fonts = EVAL_FONTS if split == "eval" else TRAIN_FONTS
        self.textures = EVAL_TEXTURES if split == "eval" else TRAIN_TEXTURES
        self.base = float(rng.uniform(35, 225))
        self.pixels = np.full((size, size, 3), self.base, np.float32) if draw else np.zeros((1, 1, 3), np.float32)

    def plain(self, low: float, high: float) -> None:
        self.base = float(self.rng.uniform(low, high))
        self.pixels[:] = self.base

    def textured(self) -> None:
        """Low-contrast texture with a faint tint."""
        if not self.draw:
            return
        rng, n = self.rng, self.size
        texture = self.textures[rng.integers(len(self.textures))]
        ramp = np.linspace(-1, 1, n, dtype=np.float32)
        period = int(rng.integers(5, 17))
        phase = np.arange(n)
        if texture == "blocks":
            field = np.kron(rng.normal(0, 8, (n // 16, n // 16)), np.ones((16, 16)))
        elif texture == "gradient":
            field = rng.uniform(-22, 22) * ramp[:, None] + rng.uniform(-22, 22) * ramp[None]
        elif texture == "stripes":
            slope = int(rng.integers(-1, 2))
            field = rng.uniform(4, 12) * (((phase[:, None] + slope * phase[None]) // period) % 2)
        elif texture == "checker":
            field = rng.uniform(4, 12) * ((phase[:, None] // period + phase[None] // period) % 2)
        else:
            field = rng.uniform(4, 12) * np.sin(phase[:, None] / period + 2 * np.sin(phase[None] / period))
        self.pixels += field.astype(np.float32)[..., None] + rng.normal(0, 4, (1, 1, 3)).astype(np.float32)

    def clutter(self, amount: int) -> None:
        """Grey lines and irregular patches: never one of the eight colours, never one of the eight shapes."""
        rng, n = self.rng, self.size
        if not self.draw:
            return
        for _ in range(amount):
            gray = np.float32(np.clip(self.base + rng.choice([-1, 1]) * rng.uniform(20, 60), 0, 255))
            x, y = int(rng.integers(0, n - 4)), int(rng.integers(0, n - 4))
            length, width = int(rng.integers(10, 50)), int(rng.integers(1, 4))
            style = rng.random()
            if style < 0.35:
                self.pixels[y : y + width, x : x + length] = gray
            elif style < 0.7:
                self.pixels[y : y + length, x : x + width] = gray
            else:
                side = int(rng.integers(8, 22))
                rows, cols = np.mgrid[0:side, 0:side]
                skew = rng.uniform(0.4, 2.5)
                mask = ((rows * skew + cols) % side < side * 0.4).astype(np.float32)
                self.paste(mask, x, y, np.full(3, gray))

    def paste(self, mask: np.ndarray, x: int, y: int, color: np.ndarray) -> None:
        if not self.draw:
            return
        h, w = mask.shape
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + h, self.size), min(x + w, self.size)
        if bottom <= top or right <= left:
            return
        part = mask[top - y : bottom - y, left - x : right - x, None]
        target = self.pixels[top:bottom, left:right]
        target += (color - target) * part

    def shape(self, kind: int, color: int, x: int, y: int, size: int, large: bool) -> np.ndarray:
        """Draw and label one coloured shape; returns its colour."""
        rgb = self.jitter(color)
        self.paste(shape_mask(SHAPES[kind], size), x, y, rgb)
        self.labels.put_object(x + size / 2, y + size / 2, 1 + kind, 1 + color, 1 + large)
        return rgb

    def jitter(self, color: int) -> np.ndarray:
        tone = RGB[color] * self.rng.uniform(0.85, 1.08) + self.rng.uniform(-12, 12, 3)
        return np.clip(tone, 0, 255).astype(np.float32)

    def ink(self, around: np.ndarray | float) -> np.ndarray:
        """Black or white, whichever stands out from the given colour."""
        luminance = float(np.asarray(around, np.float32) @ LUMA) if np.ndim(around) else float(around)
        low, high = (0, 35) if luminance > 118 else (220, 255)
        return np.full(3, self.rng.uniform(low, high), np.float32)

    def char(self, char: str, x: int, y: int, font: str, size: int, ink: np.ndarray) -> None:
        if self.draw:
            mask = glyph_mask(char, font, size)
            self.paste(mask, x - mask.shape[1] // 2, y - mask.shape[0] // 2, ink)
        self.labels.put_char(x, y, char)

    def string(self, text: str, x: int, y: int, ink: np.ndarray, size: int, font: str | None = None) -> None:
        """Left edge x, middle line y; one character per advance, which is never less than a cell."""
        font = font or self.font()
        step = advance(size)
        for i, char in enumerate(text):
            self.char(char, x + step // 2 + i * step, y, font, size, ink)

    def font(self) -> str:
        return self.fonts[self.rng.integers(len(self.fonts))]

    def plate(self, text: str, color: int, x: int, y: int, size: int) -> None:
        """A coloured sign with a string on it; x, y is its top left corner."""
        rgb = self.jitter(color)
        width, height = plate_size(text, size)
        if self.draw:
            self.pixels[y : y + height, x : x + width] = rgb
        row, first, last = (y + height // 2) // CELL, (x + 3) // CELL, min((x + width - 4) // CELL, GRID - 1)
        self.labels.cells[KIND, row, first : last + 1] = PLATE
        self.labels.cells[COLOR, row, first : last + 1] = 1 + color
        self.string(text, x + 3, y + height // 2, self.ink(rgb), size)

    def finish(self) -> np.ndarray:
        """Light noise, then 5 bits per channel, which keeps the PNG files small."""
        if not self.draw:
            return np.zeros((1, 1, 3), np.uint8)
        noise = self.rng.standard_normal((self.size, self.size, 1), dtype=np.float32) * np.float32(
            self.rng.uniform(0, 2.5)
        )
        pixels = np.clip(self.pixels + noise, 0, 255).astype(np.uint8)
        return pixels & 0xF8 | pixels >> 5


def advance(size: int) -> int:
    return max(10, size * 4 // 5)


def plate_size(text: str, size: int) -> tuple[int, int]:
    return advance(size) * len(text) + 6, size + 7


def stray_chars(rng: np.random.Generator) -> str:
    return "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), rng.integers(1, 3)))
