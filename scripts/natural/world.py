"""The natural world: `make(kind, rng, split)` composes a picture or a clip of photographs, with labels and questions.

Pictures are of 224 pixels, clips of four frames of 112. Things are Tux Paint's photographs, set by their masks on
photographic backgrounds; train, calibration and test have neither a thing's name nor a background in common.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from scripts.natural.photographs import BACKGROUNDS, SPLITS, Split, background
from scripts.natural.questions import ask
from scripts.natural.view import PATCH, Placed, View, chosen, sign_width, varied
from scripts.natural.words import ASKED, TEXTS
from scripts.pocket.clips import start
from scripts.pocket.sample import QA, STEPS, Sample
from scripts.pocket.scenes import FULL_LIMIT, STEPS_XY, TRAIN_LIMIT
from scripts.pocket.words import COLORS, DIRECTIONS

SIDE, FRAME, FRAMES = 224, 112, 4
ROOM = {2: (2, 4), 3: (3, 6)}  # cells a side -> least and most things
SLOTS = 4  # bands that hold one string each
GLYPH = (27, 33)  # pixels
RIM = 2  # pixels, without which a string on stripes is no person's to read


def split_rng(split: Split, seed: int) -> np.random.Generator:
    """Streams of different splits never meet, whatever their seeds."""
    return np.random.default_rng([SPLITS.index(split), seed])


def scene(rng: np.random.Generator, split: Split, draw: bool) -> Sample:
    """Things in cells of a raster to themselves, here and there several of a class."""
    view = View(rng, split, SIDE, draw)
    raster = int(rng.choice([2, 3], p=[0.35, 0.65]))
    low, high = ROOM[raster]
    count = int(rng.integers(low, high + 1))
    pool = rng.permutation(ASKED)[: int(rng.integers(2, 5)) if rng.random() < 0.6 else None]
    names = rng.choice(pool, count, replace=len(pool) <= 4)
    room = SIDE // raster
    things = []
    for cell, name in zip(rng.permutation(raster**2)[:count], names, strict=True):
        row, col = divmod(int(cell), raster)
        size = rng.uniform(0.75, 0.98) * room
        things.append(view.thing(str(name), size, (col * room, row * room, room, room), (row, col)))
    limit = TRAIN_LIMIT if split == "train" else FULL_LIMIT
    return Sample("scene", pixels(view), view.labels, ask(things, SIDE, rng, limit))


def stray(view: View, left: int, right: int, slot: int) -> None:
    """A thing beside a string, where there is room."""
    rng, height = view.rng, SIDE // SLOTS
    if right - left > 40 and rng.random() < 0.6:
        view.thing(str(rng.choice(ASKED)), rng.uniform(36, 54), (left, slot * height, right - left, height))


def signs(rng: np.random.Generator, split: Split, draw: bool) -> Sample:
    """Signs of different colours, each with a string."""
    view = View(rng, split, SIDE, draw)
    count = int(rng.integers(2, 4))
    told = []
    height = SIDE // SLOTS
    texts = [str(text) for text in rng.permutation(TEXTS)[:count]]
    for slot, color, text in zip(rng.permutation(SLOTS)[:count], rng.permutation(len(COLORS)), texts, strict=False):
        size, tall = int(rng.integers(*GLYPH)), int(rng.integers(38, 49))
        width = sign_width(text)
        left, top = int(rng.integers(2, SIDE - 2 - width)), int(slot) * height + int(rng.integers(2, height - tall - 1))
        free = (2, left - 4) if left > (SIDE - width) // 2 else (left + width + 4, SIDE - 2)
        stray(view, *free, int(slot))
        view.sign(text, int(color), left, top, size, tall)
        told.append((COLORS[color], text))
    qas = [QA("plate", "natural_textvqa", f"read the {color} sign", text) for color, text in told]
    qas += [
        QA("plate_color", "natural_textvqa", f"what color is the sign that says {text}?", color) for color, text in told
    ]
    return Sample("signs", pixels(view), view.labels, qas)


def bare_text(rng: np.random.Generator, split: Split, draw: bool) -> Sample:
    """Strings set straight on the photograph."""
    view = View(rng, split, SIDE, draw)
    count, height = int(rng.integers(1 if split == "train" else 2, 4)), SIDE // SLOTS
    texts = [str(text) for text in rng.permutation(TEXTS)[:count]]
    for slot, text in zip(sorted(int(s) for s in rng.permutation(SLOTS)[:count]), texts, strict=True):
        size = int(rng.integers(*GLYPH))
        width = sign_width(text)
        left, middle = int(rng.integers(4, SIDE - 4 - width)), slot * height + int(rng.integers(20, height - 19))
        free = (2, left - 4) if left > (SIDE - width) // 2 else (left + width + 4, SIDE - 2)
        stray(view, *free, slot)
        view.string(
            text, left + PATCH // 2, middle, size, view.ink((left, middle - 14, left + width, middle + 14)), RIM
        )
    names = {1: ("",), 2: ("top ", "bottom "), 3: ("top ", "center ", "bottom ")}[count]
    qas = [QA("ocr", "natural_ocrbench", f"read the {name}text", text) for name, text in zip(names, texts, strict=True)]
    return Sample("bare_text", pixels(view), view.labels, qas)


def clip(rng: np.random.Generator, split: Split, draw: bool) -> Sample:
    """Four frames: shots of a thing each, or a view that pans over things."""
    frames, qas = (cuts if rng.random() < 0.5 else panning)(rng, split, draw)
    image = np.stack([pixels(frame) for frame in frames])
    return Sample("clip", image, np.stack([frame.labels for frame in frames], axis=1), qas)


def cuts(rng: np.random.Generator, split: Split, draw: bool) -> tuple[list[View], list[QA]]:
    """Four shots, each of another class."""
    frames, names = [], [str(name) for name in rng.permutation(ASKED)[:FRAMES]]
    for name in names:
        frame = View(rng, split, FRAME, draw)
        frame.thing(name, rng.uniform(0.6, 0.95) * FRAME, (0, 0, FRAME, FRAME))
        frames.append(frame)
    options = tuple(names[i] for i in rng.permutation(FRAMES))
    qas = [
        QA("order", "natural_videomme", f"what thing appears {when}?", names[i], options=options)
        for when, i in (("first", 0), ("last", -1))
    ]
    for answer in ("yes", "no"):
        i, j = sorted(int(k) for k in rng.permutation(FRAMES)[:2])
        a, b = (i, j) if answer == "yes" else (j, i)
        question = f"does the {names[a]} appear before the {names[b]}?"
        qas.append(QA("before", "natural_videomme", question, answer, options=("yes", "no")))
    i = int(rng.integers(FRAMES))
    qas.append(QA("helper", "", f"what thing is in frame{i + 1}?", names[i]))
    return frames, qas


def panning(rng: np.random.Generator, split: Split, draw: bool) -> tuple[list[View], list[QA]]:
    """The view moves over a photograph with one or two things on it, which so move the other way."""
    way, speed = int(rng.integers(4)), int(rng.integers(12, 17))
    dx, dy = STEPS_XY[way]
    travel = speed * (FRAMES - 1)
    whole = background(str(rng.choice(BACKGROUNDS[split])))
    side = FRAME + travel
    ground = View(rng, split, FRAME, draw).image.resize((1, 1)) if not draw else _square(whole, side, rng)
    frames = []
    for t in range(FRAMES):
        left, top = ((travel if d < 0 else 0) for d in (-dx, -dy))
        left, top = left - dx * speed * t, top - dy * speed * t
        left, top = (0 if d == 0 else at for at, d in ((left, dx), (top, dy)))
        behind = ground.crop((left, top, left + FRAME, top + FRAME)) if draw else ground
        frames.append(View(rng, split, FRAME, draw, behind))
    names, qas = [str(name) for name in rng.permutation(ASKED)[: int(rng.integers(1, 3))]], []
    band = FRAME // len(names)
    for i, name in enumerate(names):
        picture = varied(chosen(rng, split, name), rng, split, draw)
        scale = min(rng.uniform(36, 50), band) / max(picture.size)
        w, h = (max(2, round(length * scale)) for length in picture.size)
        small = picture.resize((w, h), Image.Resampling.LANCZOS)
        x = start(rng, dx, travel, FRAME - w)
        y = start(rng, dy, travel, FRAME - h)
        if dx and len(names) > 1:
            y = i * band + int(rng.integers(0, max(band - h, 0) + 1))
        elif dy and len(names) > 1:
            x = i * band + int(rng.integers(0, max(band - w, 0) + 1))
        places = [frames[t].paste(small, name, x + dx * speed * t, y + dy * speed * t, (0, 0)) for t in range(FRAMES)]
        chain = " ".join(_band(places[t]) for t in (0, -1))
        question = f"which direction does the {name} move? {STEPS}"
        qas.append(QA("direction", "natural_videomme", question, DIRECTIONS[way], chain, DIRECTIONS))
    return frames, qas


def _band(thing: Placed) -> str:
    return f"row{min(int(thing.y * 4 / FRAME), 3) + 1} col{min(int(thing.x * 4 / FRAME), 3) + 1}"


def _square(whole: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    cut = int(rng.integers(336, min(whole.size) + 1))
    left, top = (int(rng.integers(0, length - cut + 1)) for length in whole.size)
    return whole.resize(
        (side, side), Image.Resampling.BILINEAR, box=(left, top, left + cut, top + cut), reducing_gap=2.0
    )


def pixels(view: View) -> np.ndarray:
    """[side, side, 3]."""
    return np.asarray(view.image, np.uint8) if view.draw else np.zeros((1, 1, 3), np.uint8)


MAKERS = {"scene": scene, "signs": signs, "bare_text": bare_text, "clip": clip}
FAMILY_KIND = {
    "presence": "scene", "relation": "scene", "neighbour": "scene", "count": "scene", "kind_count": "scene",
    "location": "scene", "what": "scene", "kind": "scene", "which": "scene", "helper": "scene",
    "plate": "signs", "plate_color": "signs", "ocr": "bare_text",
    "direction": "clip", "order": "clip", "before": "clip",
}  # fmt: skip
FAMILIES = tuple(FAMILY_KIND)
FAMILY_BENCHMARK = {
    "kind": "natural_scienceqa", "kind_count": "natural_scienceqa", "relation": "natural_gqa",
    "neighbour": "natural_gqa", "presence": "natural_pope", "location": "natural_seed", "what": "natural_seed",
    "count": "natural_seed", "which": "natural_mmbench", "plate": "natural_textvqa",
    "plate_color": "natural_textvqa", "ocr": "natural_ocrbench", "direction": "natural_videomme",
    "order": "natural_videomme", "before": "natural_videomme",
}  # fmt: skip
BENCHMARK_KINDS = {
    "natural_scienceqa": "scene",
    "natural_gqa": "scene",
    "natural_pope": "scene",
    "natural_seed": "scene",
    "natural_mmbench": "scene",
    "natural_textvqa": "signs",
    "natural_ocrbench": "bare_text",
    "natural_videomme": "clip",
}


def make(kind: str, rng: np.random.Generator, split: Split, *, draw: bool = True) -> Sample:
    """A sample of a kind of `MAKERS`.

    Raises:
        DataError: a package is missing or another one.
    """
    return MAKERS[kind](rng, split, draw)
