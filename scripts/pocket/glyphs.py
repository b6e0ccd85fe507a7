"""Anti-aliased masks of shapes and characters, drawn once and cached."""

import math
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

FONT_DIR = Path(get_data_path()) / "fonts" / "ttf"
SHARED_FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono-Bold.ttf", "STIXGeneralBol.ttf")
TRAIN_FONTS = (*SHARED_FONTS, "cmb10.ttf", "cmtt10.ttf")
EVAL_FONTS = (*SHARED_FONTS, "DejaVuSerif-Bold.ttf")
OVERSAMPLE = 8


@cache
def shape_mask(name: str, size: int) -> np.ndarray:
    """[size, size] coverage in 0..1."""
    w = size * OVERSAMPLE
    image = Image.new("L", (w, w), 0)
    draw = ImageDraw.Draw(image)

    def polygon(*points: tuple[float, float]) -> None:
        draw.polygon([(x * w, y * w) for x, y in points], fill=255)

    if name == "circle":
        draw.ellipse([0, 0, w - 1, w - 1], fill=255)
    elif name == "square":
        draw.rectangle([w * 0.07, w * 0.07, w * 0.93, w * 0.93], fill=255)
    elif name == "triangle":
        polygon((0.5, 0), (1, 0.95), (0, 0.95))
    elif name == "diamond":
        polygon((0.5, 0), (0.9, 0.5), (0.5, 1), (0.1, 0.5))
    elif name == "star":
        radii = [0.5 if i % 2 == 0 else 0.2 for i in range(10)]
        turns = [i * math.pi / 5 for i in range(10)]
        polygon(*[(0.5 + r * math.sin(t), 0.5 - r * math.cos(t)) for r, t in zip(radii, turns, strict=True)])
    elif name == "cross":
        draw.rectangle([w * 0.33, 0, w * 0.67, w], fill=255)
        draw.rectangle([0, w * 0.33, w, w * 0.67], fill=255)
    elif name == "ring":
        draw.ellipse([0, 0, w - 1, w - 1], fill=255)
        draw.ellipse([w * 0.27, w * 0.27, w * 0.73, w * 0.73], fill=0)
    elif name == "heart":
        draw.ellipse([0, w * 0.05, w * 0.54, w * 0.58], fill=255)
        draw.ellipse([w * 0.46, w * 0.05, w, w * 0.58], fill=255)
        polygon((0.05, 0.42), (0.95, 0.42), (0.5, 1))
    else:
        raise ValueError(f"unknown shape {name!r}")
    return np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32) / 255


@cache
def glyph_mask(char: str, font: str, size: int) -> np.ndarray:
    """Coverage of one character, centred, cropped to about 1.1 x 1.3 of its size."""
    image = Image.new("L", (2 * size, 2 * size), 0)
    face = ImageFont.truetype(str(FONT_DIR / font), size)
    ImageDraw.Draw(image).text((size, size), char, font=face, fill=255, anchor="mm")
    height, width = size * 13 // 20, size * 11 // 20
    mask = np.asarray(image, np.float32) / 255
    return mask[size - height : size + height + 1, size - width : size + width + 1]
