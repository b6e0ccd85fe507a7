"""Bar charts and node diagrams."""

import numpy as np
from PIL import Image, ImageDraw

from scripts.pocket.canvas import Canvas
from scripts.pocket.sample import BAR, CELL, COLOR, IN_ARROW, KIND, OUT_ARROW, QA, STEPS, Sample
from scripts.pocket.scenes import STEPS_XY, row_or_column, some
from scripts.pocket.words import COLORS, IN, LETTERS, OUT

BASE_LINE, UNIT, MAX_VALUE = 116, 12, 8


def chart(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    """Bars of value 1-8 on a grid of faint lines, each of its own colour."""
    canvas = Canvas(rng, split, draw=draw)
    canvas.plain(222, 252) if rng.random() < 0.7 else canvas.plain(20, 50)
    axis = np.float32(60 if canvas.base > 128 else 200)
    if draw:
        for value in range(1, MAX_VALUE + 1):
            canvas.pixels[BASE_LINE - value * UNIT, 8:] = axis * 0.35 + canvas.base * 0.65
        canvas.pixels[BASE_LINE, 8:] = axis
        canvas.pixels[12:BASE_LINE, 8] = axis
    count = int(rng.integers(3, min(6, max_objects) + 1)) if max_objects > 3 else 3
    step = 116 // count
    bars: list[tuple[int, str]] = []
    for i, (color, value) in enumerate(
        zip(rng.permutation(8)[:count], rng.integers(1, MAX_VALUE + 1, count), strict=True)
    ):
        width = max(11, step - int(rng.integers(4, 10)))
        x, top = 10 + i * step + (step - width) // 2, BASE_LINE - int(value) * UNIT
        if draw:
            canvas.pixels[top:BASE_LINE, x : x + width] = canvas.jitter(int(color))
        column = (x + width // 2) // CELL
        cells = canvas.labels.cells
        cells[COLOR, top // CELL : BASE_LINE // CELL, column] = 1 + int(color)
        cells[KIND, top // CELL, column] = BAR + int(value)
        bars.append((int(value), COLORS[color]))
    qas = [QA("bar", "pocket_chartqa", f"what is the value of the {color} bar?", str(value)) for value, color in bars]
    values = sorted(value for value, _ in bars)
    if values[-1] > values[-2]:
        qas.append(QA("extreme", "pocket_chartqa", "what color is the tallest bar?", dict(bars)[values[-1]]))
    if values[0] < values[1]:
        qas.append(QA("extreme", "pocket_chartqa", "what color is the shortest bar?", dict(bars)[values[0]]))
    return Sample("chart", canvas.finish(), canvas.labels.cells, qas)


def random_walk(rng: np.random.Generator, count: int) -> tuple[list[tuple[int, int]], list[int]]:
    """A self-avoiding walk on the 4x4 grid: cells (col, row) and the direction of every step."""
    while True:
        path, moves = [(int(rng.integers(4)), int(rng.integers(4)))], []
        while len(path) < count:
            x, y = path[-1]
            free = [
                k
                for k, (dx, dy) in enumerate(STEPS_XY)
                if 0 <= x + dx < 4 and 0 <= y + dy < 4 and (x + dx, y + dy) not in path
            ]
            if not free:
                break
            moves.append(free[rng.integers(len(free))])
            path.append((x + STEPS_XY[moves[-1]][0], y + STEPS_XY[moves[-1]][1]))
        if len(path) == count:
            return path, moves


def diagram(rng: np.random.Generator, split: str, draw: bool, max_objects: int) -> Sample:
    """Named nodes joined by arrows along a walk, some arrows missing."""
    canvas = Canvas(rng, split, draw=draw)
    light = rng.random() < 0.7
    canvas.plain(215, 250) if light else canvas.plain(25, 60)
    count = int(rng.integers(min(4, max_objects), min(9, max_objects + 1) + 1))
    path, moves = random_walk(rng, count)
    edges = [i for i in range(count - 1) if i == 0 or rng.random() > 0.12]
    names = [LETTERS[i] for i in rng.permutation(len(LETTERS))[:count]]
    centres = [(x * 32 + 16 + int(rng.integers(-2, 3)), y * 32 + 16 + int(rng.integers(-2, 3))) for x, y in path]
    if draw:
        draw_diagram(canvas, centres, edges, light)
    for cell in rng.permutation(16)[: rng.integers(0, 10)]:
        row, col = divmod(int(cell), 4)
        if (col, row) not in path:  # shapes between the nodes, as distractors; never a circle
            size = int(rng.integers(13, 17))
            canvas.shape(int(rng.integers(1, 8)), int(rng.integers(8)), col * 32 + 8, row * 32 + 8, size, False)
    font, cells = canvas.font(), canvas.labels.cells
    ink = np.full(3, 0 if light else 255, np.float32)
    for name, (x, y) in zip(names, centres, strict=True):
        canvas.char(name, x, y, font, 14, ink)
    for i in edges:
        (x0, y0), (x1, y1) = centres[i], centres[i + 1]
        cells[OUT_ARROW, y0 // CELL, x0 // CELL] = 1 + moves[i]
        cells[IN_ARROW, y1 // CELL, x1 // CELL] = 1 + (moves[i] ^ 1)
    place = [f"row{y + 1} col{x + 1}" for x, y in path]
    qas = []
    for i in some(edges, rng, 3 if split == "train" else 8):
        a, b, move = names[i], names[i + 1], moves[i]
        forward = f"{place[i]} {OUT[move]} {place[i + 1]}"
        backward = f"{place[i + 1]} {IN[move ^ 1]} {place[i]}"
        qas.append(QA("points_to", "pocket_ai2d", f"which node does {a} point to? {STEPS}", b, forward))
        qas.append(QA("pointed_by", "pocket_ai2d", f"which node points to {b}? {STEPS}", a, backward))
    for i in some(list(range(count)), rng, 2):
        qas.append(QA("helper", "", f"which node is at {place[i]}?", names[i]))
        qas.append(QA("helper", "", *row_or_column(rng, f"node {names[i]}", path[i][1], path[i][0])))
    return Sample("diagram", canvas.finish(), cells, qas)


def draw_diagram(canvas: Canvas, centres: list[tuple[int, int]], edges: list[int], light: bool) -> None:
    picture = Image.fromarray(canvas.pixels.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    line = (30, 30, 30) if light else (225, 225, 225)
    fill = (200, 220, 250) if light else (60, 70, 110)
    for x, y in centres:
        pen.ellipse([x - 10, y - 10, x + 10, y + 10], fill=fill, outline=line)
    for i in edges:
        (x0, y0), (x1, y1) = centres[i], centres[i + 1]
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        tail, head = (x0 + ux * 10, y0 + uy * 10), (x1 - ux * 10, y1 - uy * 10)
        pen.line([tail, head], fill=line, width=3)
        wings = [(head[0] - ux * 8 - s * uy * 6, head[1] - uy * 8 + s * ux * 6) for s in (1, -1)]
        pen.polygon([head, *wings], fill=(210, 40, 40))
    canvas.pixels = np.asarray(picture, np.float32).copy()
