"""Clips of four frames: which way a thing moves, and in which order things appear."""

import numpy as np

from scripts.pocket.canvas import Canvas
from scripts.pocket.sample import QA, STEPS, Sample
from scripts.pocket.scenes import STEPS_XY
from scripts.pocket.words import COLORS, DIRECTIONS

FRAMES, SIDE = 4, 64


def clip(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    background = Canvas(rng, split, SIDE, draw)
    background.textured()
    background.clutter(int(rng.integers(0, 5)))
    frames = []
    for _ in range(FRAMES):
        frame = Canvas(rng, split, SIDE, draw)
        frame.pixels = background.pixels.copy()
        frames.append(frame)
    qas = motion(frames, rng, max_objects) if rng.random() < 0.6 else appearance(frames, rng)
    image = np.stack([frame.finish() for frame in frames])
    labels = np.stack([frame.labels.cells for frame in frames], axis=1)
    return Sample("clip", image, labels, qas)


def motion(frames: list[Canvas], rng: np.random.Generator, max_objects: int) -> list[QA]:
    """Things of distinct colours, each moving 7-11 pixels per frame along one axis."""
    qas = []
    for color in rng.permutation(8)[: rng.integers(1, min(3, max_objects) + 1)]:
        shape, size, way = int(rng.integers(8)), int(rng.integers(12, 16)), int(rng.integers(4))
        dx, dy = STEPS_XY[way]
        speed = int(rng.integers(7, 12))
        travel, free = speed * (FRAMES - 1), SIDE - size
        x, y = (start(rng, d, travel, free) for d in (dx, dy))
        centres = []
        for t, frame in enumerate(frames):
            xt, yt = x + dx * speed * t, y + dy * speed * t
            frame.shape(shape, int(color), xt, yt, size, False)
            centres.append((coarse(xt + size / 2), coarse(yt + size / 2)))
        name = COLORS[color]
        chain = " ".join(f"row{row + 1} col{col + 1}" for col, row in (centres[0], centres[-1]))
        question = f"which direction does the {name} thing move? {STEPS}"
        qas.append(QA("direction", "pocket_videomme", question, DIRECTIONS[way], chain, DIRECTIONS))
        when = int(rng.choice([0, FRAMES - 1]))
        axis = int(rng.integers(2))
        helper = f"which {('column', 'row')[axis]} is the {name} thing in at frame{when + 1}?"
        qas.append(QA("helper", "", helper, f"{('col', 'row')[axis]}{centres[when][axis] + 1}"))
    return qas


def coarse(centre: float) -> int:
    """Row or column 0-3 of a thing: that of the first of the two cells it is labelled in."""
    return max(int(centre - 4), 0) // 16


def start(rng: np.random.Generator, step: int, travel: int, free: int) -> int:
    """A first coordinate from which the whole path stays inside the frame."""
    if step < 0:
        return int(rng.integers(travel, free + 1))
    return int(rng.integers(0, free - travel + 1)) if step > 0 else int(rng.integers(0, free + 1))


def appearance(frames: list[Canvas], rng: np.random.Generator) -> list[QA]:
    """One thing appears per frame and stays for one frame or more."""
    names = []
    for first, (color, cell) in enumerate(zip(rng.permutation(8)[:FRAMES], rng.permutation(9), strict=False)):
        shape, size, stay = int(rng.integers(8)), int(rng.integers(12, 17)), int(rng.integers(1, 5))
        x, y = (int(c) * 21 + int(rng.integers(0, 22 - size)) for c in (cell % 3, cell // 3))
        for t in range(first, min(FRAMES, first + stay)):
            frames[t].shape(shape, int(color), x, y, size, False)
        names.append(COLORS[color])
    options = tuple(names[i] for i in rng.permutation(FRAMES))
    qas = [
        QA("order", "pocket_videomme", "what color appears first?", names[0], options=options),
        QA("order", "pocket_videomme", "what color appears last?", names[-1], options=options),
    ]
    for answer in ("yes", "no"):
        i, j = sorted(int(k) for k in rng.permutation(FRAMES)[:2])
        a, b = (i, j) if answer == "yes" else (j, i)
        qas.append(
            QA("before", "pocket_videomme", f"does {names[a]} appear before {names[b]}?", answer, options=("yes", "no"))
        )
    return qas
