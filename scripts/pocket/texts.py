"""Pictures to read: coloured plates, bare scene text, documents."""

import numpy as np

from scripts.pocket.canvas import Canvas, plate_size
from scripts.pocket.sample import QA, Sample
from scripts.pocket.words import COLORS, DIGITS, LETTERS


def random_string(rng: np.random.Generator, low: int, high: int) -> str:
    """Letters, digits, or a mixture like a number plate."""
    pools = (LETTERS, DIGITS, LETTERS + DIGITS)
    pool = pools[rng.choice(3, p=[0.45, 0.2, 0.35])]
    return "".join(pool[i] for i in rng.integers(0, len(pool), rng.integers(low, high + 1)))


def stray_shape(canvas: Canvas, x0: int, x1: int, y0: int, height: int) -> None:
    """A coloured shape as a distractor somewhere in a free strip."""
    rng = canvas.rng
    size = int(rng.integers(13, 17))
    if x1 - x0 > size:
        x, y = int(rng.integers(x0, x1 - size + 1)), y0 + int(rng.integers(0, max(height - size, 0) + 1))
        canvas.shape(int(rng.integers(8)), int(rng.integers(8)), x, y, size, False)


def plates(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    canvas = Canvas(rng, split, draw=draw)
    canvas.textured()
    canvas.clutter(int(rng.integers(3, 10)))
    count = int(rng.integers(min(3, max_objects - 1), min(5, max_objects) + 1))
    slots, colors = rng.permutation(5)[:count], rng.permutation(8)[:count]
    signs = []
    for slot, color in zip(slots, colors, strict=True):
        text, size = random_string(rng, 2, 4), int(rng.integers(14, 17))
        width, height = plate_size(text, size)
        x, y = int(rng.integers(1, 127 - width)), int(slot) * 25 + int(rng.integers(0, 26 - height)) + 1
        left, right = (1, x - 6) if x > 64 - width // 2 else (x + width + 6, 127)
        stray_shape(canvas, left, right, int(slot) * 25, 25)
        canvas.plate(text, int(color), x, y, size)
        signs.append((COLORS[color], text))
    qas = [QA("plate", "pocket_textvqa", f"read the {color} sign", text) for color, text in signs]
    texts = [text for _, text in signs]
    for color, text in signs:
        if texts.count(text) == 1:
            qas.append(QA("plate_color", "pocket_textvqa", f"what color is the sign that says {text}?", color))
    return Sample("plates", canvas.finish(), canvas.labels.cells, qas)


def scene_text(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    canvas = Canvas(rng, split, draw=draw)
    canvas.textured()
    count = int(rng.integers(1, 4))
    slots = sorted(int(s) for s in rng.permutation(5)[:count])
    texts = []
    for slot in range(5):
        if slot not in slots:
            for x0 in (2, 45, 88):
                if rng.random() < 0.6:
                    stray_shape(canvas, x0, x0 + 38, slot * 25, 25)
            continue
        text, size = random_string(rng, 2, 4), int(rng.integers(14, 18))
        width, _ = plate_size(text, size)
        x, y = int(rng.integers(2, 126 - width)), slot * 25 + int(rng.integers(9, 17))
        canvas.string(text, x, y, canvas.ink(canvas.base), size)
        left, right = (2, x - 6) if x > 64 - width // 2 else (x + width + 2, 126)
        stray_shape(canvas, left, right, slot * 25, 25)
        texts.append(text)
    names = {1: ("",), 2: ("top ", "bottom "), 3: ("top ", "center ", "bottom ")}[count]
    qas = [QA("ocr", "pocket_ocrbench", f"read the {name}text", text) for name, text in zip(names, texts, strict=True)]
    return Sample("scene_text", canvas.finish(), canvas.labels.cells, qas)


def document(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    """A ruled page with one string in each of four rows, here and there beside a stamp."""
    canvas = Canvas(rng, split, draw=draw)
    canvas.plain(215, 252) if rng.random() < 0.75 else canvas.plain(20, 60)
    rule = np.float32(canvas.base * 0.75 if canvas.base > 128 else canvas.base + 60)
    if draw:
        for y in range(31, 128, 32):
            canvas.pixels[y, 4:124] = rule
        margin = int(rng.integers(2, 8))
        canvas.pixels[:, margin : margin + 2] = rule
    font, qas = canvas.font(), []
    for row in range(4):
        text, size = random_string(rng, 3, 4), int(rng.integers(14, 18))
        width, _ = plate_size(text, size)
        x, y = int(rng.integers(10, 70)), row * 32 + int(rng.integers(12, 20))
        canvas.string(text, x, y, canvas.ink(canvas.base), size, font)
        if rng.random() < 0.5:
            stray_shape(canvas, x + width + 2, 126, row * 32 + 4, 24)
        qas.append(QA("document", "pocket_docvqa", f"read the line in row{row + 1}", text))
    return Sample("document", canvas.finish(), canvas.labels.cells, qas)
