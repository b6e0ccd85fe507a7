"""Long clips: things that appear for a few frames, before a still background or a camera that moves over a scene.

A clip is decided as a list of events before anything is drawn; every answer follows from that list. A thing *appears*
at its first frame. No two things appear in the same frame, and none is there in the first frame, so which was first,
last, before or just after another is never a matter of taste.
"""

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np

from scripts.pocket.canvas import Canvas
from scripts.pocket.clips import coarse
from scripts.pocket.clips import start as corner
from scripts.pocket.glyphs import shape_mask
from scripts.pocket.sample import QA, STEPS
from scripts.pocket.scenes import STEPS_XY
from scripts.pocket.words import COLORS, DIRECTIONS, FRAMES, SHAPES

SIDE, SCENE = 64, 128  # pixels of a frame, and of the scene that a moving camera passes over
LENGTHS = (8, 16, 32, 64)
MOST_SHORT = 3  # frames that a short event stays
MOST_TIMES = 4  # appearances of one colour
ASKED = "pocket_longvideo"
YES_NO = ("yes", "no")
FAMILIES = ("color", "shape", "count", "when", "order", "before", "next", "presence", "direction")
SHORT = ("color", "shape", "count", "when", "presence")  # asked about short events alone


@dataclass(frozen=True)
class Event:
    """A thing of one shape and colour that is there in the frames `first` to `last`.

    `x`, `y`: of its upper left corner in frame `first`, in pixels; of the scene for a short event, which lies in it, of
    the frame for the thing that moves, by `step` pixels a frame in direction `way` (None: a short event).
    """

    first: int
    last: int
    shape: int
    color: int
    size: int
    x: float
    y: float
    way: int | None = None
    step: float = 0.0


@dataclass(frozen=True)
class Story:
    """What happens in a clip: `camera` [frames, 2] is the corner of the window over the scene, x and y in pixels."""

    frames: int
    camera: np.ndarray
    events: tuple[Event, ...]

    @property
    def moving(self) -> bool:
        return bool((self.camera != self.camera[0]).any())


@dataclass
class LongClip:
    """Frames [F, 64, 64, 3] with the story behind them and its questions."""

    image: np.ndarray
    story: Story
    qas: list[QA]

    is_clip = True


def long_clip(rng: np.random.Generator, split: str, frames: int) -> LongClip:
    """One clip of so many frames."""
    told = story(rng, frames)
    return LongClip(film(told, rng, split), told, questions(told, rng))


def story(rng: np.random.Generator, frames: int) -> Story:
    """Events and camera of one clip."""
    camera = path(rng, frames)
    long = int(rng.integers(frames // 2, frames * 3 // 4 + 1))
    start = int(rng.integers(1, frames - long + 1))
    wanted = int(rng.integers(4, 7)) if frames > 16 else frames // 8 + int(rng.integers(1, 3))
    spans = short_spans(rng, frames, wanted, start)
    times = min(int(rng.integers(0, MOST_TIMES + 1)), len(spans))
    palette, shapes = rng.permutation(8), rng.permutation(8)
    colors = rng.permutation([palette[0]] * times + list(palette[1 : 1 + len(spans) - times]))
    events = [mover(rng, start, start + long - 1, int(shapes[7]), int(palette[7]))]
    for (first, last), color in zip(spans, colors, strict=True):
        size = int(rng.integers(13, 18))
        seen = camera[first : last + 1]
        x, y = (int(rng.integers(seen[:, k].max(), seen[:, k].min() + SIDE - size + 1)) for k in (0, 1))
        events.append(Event(first, last, int(shapes[rng.integers(7)]), int(color), size, x, y))
    return Story(frames, camera, tuple(sorted(events, key=lambda event: event.first)))


def path(rng: np.random.Generator, frames: int) -> np.ndarray:
    """[frames, 2] corners of the window: half of the clips stay where they are, half go straight on over the scene."""
    room = SCENE - SIDE
    if rng.random() < 0.5:
        return np.repeat(rng.integers(0, room + 1, (1, 2)), frames, 0)
    heading = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)][rng.integers(8)])
    travel = int(rng.integers(room // 2, room + 1))
    low = np.where(heading < 0, travel, 0)
    high = np.where(heading > 0, room - travel, room)
    start = rng.integers(low, high + 1)
    return start + heading * (travel * np.arange(frames)[:, None] // (frames - 1))


def short_spans(rng: np.random.Generator, frames: int, wanted: int, taken: int) -> list[tuple[int, int]]:
    """Spans of 1 to 3 frames (in few frames 1 or 2) with a free frame between them; none begins at `taken` or at 0."""
    spans: list[tuple[int, int]] = []
    for _ in range(20 * wanted):
        first = int(rng.integers(1, frames))
        last = first + int(rng.integers(0, MOST_SHORT if frames > 16 else 2))
        free = all(last + 1 < a or first > b + 1 for a, b in spans)
        if free and last < frames and first != taken and len(spans) < wanted:
            spans.append((first, last))
    return sorted(spans)


def mover(rng: np.random.Generator, first: int, last: int, shape: int, color: int) -> Event:
    """A thing that crosses the frame while it is there."""
    way, size = int(rng.integers(4)), int(rng.integers(13, 18))
    travel = int(rng.integers(28, SIDE - size + 1))
    dx, dy = STEPS_XY[way]
    x, y = (corner(rng, d, travel, SIDE - size) for d in (dx, dy))
    return Event(first, last, shape, color, size, x, y, way, travel / max(last - first, 1))


def film(told: Story, rng: np.random.Generator, split: str) -> np.ndarray:
    """uint8 [frames, 64, 64, 3]: 5 bits a channel; exposure and some pixels flicker, so no frame equals another."""
    canvas = Canvas(rng, split, SCENE)
    canvas.textured()
    canvas.clutter(int(rng.integers(6, 19)))
    ground = np.clip(canvas.pixels, 0, 255)
    tones = [canvas.jitter(event.color) for event in told.events]
    exposure = rng.integers(-1, 2, told.frames) * 4
    image = np.empty((told.frames, SIDE, SIDE, 3), np.uint8)
    for t, (cx, cy) in enumerate(told.camera):
        frame = ground[cy : cy + SIDE, cx : cx + SIDE].copy()
        for event, tone in zip(told.events, tones, strict=True):
            if event.first <= t <= event.last:
                x, y = place(event, t, told.camera)
                part = shape_mask(SHAPES[event.shape], event.size)[..., None]
                target = frame[y : y + event.size, x : x + event.size]
                target += (tone - target) * part
        row, column = rng.integers(0, SIDE, (2, 64))
        frame[row, column] += rng.normal(0, 12, (64, 1))
        image[t] = np.clip(frame + exposure[t], 0, 255).astype(np.uint8)
    return image & 0xF8 | image >> 5


def place(event: Event, t: int, camera: np.ndarray) -> tuple[int, int]:
    """Its upper left corner in frame `t`, in the frame's pixels."""
    if event.way is None:
        return int(event.x - camera[t, 0]), int(event.y - camera[t, 1])
    dx, dy = STEPS_XY[event.way]
    gone = event.step * (t - event.first)
    return round(event.x + dx * gone), round(event.y + dy * gone)


def quarter(t: int, frames: int) -> str:
    """The quarter of the clip that a frame is in, by the word that a clip of four frames has for it."""
    return FRAMES[4 * t // frames]


def questions(told: Story, rng: np.random.Generator) -> list[QA]:
    """All that can be asked about a clip; which of it is asked is the caller's choice."""
    events = told.events
    short = [event for event in events if event.way is None]
    colors, shapes = Counter(e.color for e in events), Counter(e.shape for e in events)
    once = [event for event in events if colors[event.color] == 1]
    options = tuple(COLORS[color] for color in rng.permutation(sorted(colors)))
    asked = []

    def ask(family: str, question: str, answer: str, options: tuple[str, ...], chain: str = "") -> None:
        asked.append(QA(family, ASKED, question, answer, chain, options))

    for event in short:
        if shapes[event.shape] == 1:
            ask("color", f"what color is the {SHAPES[event.shape]}?", COLORS[event.color], COLORS)
        if colors[event.color] == 1:
            ask("shape", f"what shape is the {COLORS[event.color]} thing?", SHAPES[event.shape], SHAPES)
            if len({quarter(t, told.frames) for t in (event.first, event.last)}) == 1:
                when = quarter(event.first, told.frames)
                ask("when", f"which frame does {COLORS[event.color]} appear in?", when, FRAMES)
    absent = [color for color in range(8) if color not in colors]
    counted = {e.color: colors[e.color] for e in short}
    several = [color for color, number in counted.items() if number > 1]
    single = [color for color, number in counted.items() if number == 1]
    rare = (several, single[: rng.random() < 0.4], [int(rng.choice(absent))][: rng.random() < 0.4])  # as likely each
    for group in rare:
        for color in group:
            found = " ".join(quarter(e.first, told.frames) for e in events if e.color == color)
            question = f"how many {COLORS[color]} things appear? {STEPS}"
            ask("count", question, str(counted.get(color, 0)), tuple("01234"), found)
    ask("order", "what color appears first?", COLORS[events[0].color], options)
    ask("order", "what color appears last?", COLORS[events[-1].color], options)
    for answer in YES_NO:
        if len(once) > 1:
            i, j = sorted(int(k) for k in rng.permutation(len(once))[:2])
            a, b = (once[k].color for k in ((i, j) if answer == "yes" else (j, i)))
            ask("before", f"does {COLORS[a]} appear before {COLORS[b]}?", answer, YES_NO)
    for earlier, later in itertools.pairwise(events):
        if colors[earlier.color] == 1:
            ask("next", f"what color appears just after {COLORS[earlier.color]}?", COLORS[later.color], options)
        if colors[later.color] == 1:
            ask("next", f"what color appears just before {COLORS[later.color]}?", COLORS[earlier.color], options)
    for answer, group in zip(YES_NO, ([e.color for e in short], absent), strict=True):
        ask("presence", f"does {COLORS[int(rng.choice(group))]} appear?", answer, YES_NO)
    for event in events:
        if event.way is not None:
            ends = (place(event, t, told.camera) for t in (event.first, event.last))
            cells = [[coarse(at + event.size / 2) + 1 for at in edges] for edges in ends]
            chain = " ".join(f"row{row} col{col}" for col, row in cells)
            question = f"which direction does the {COLORS[event.color]} thing move? {STEPS}"
            ask("direction", question, DIRECTIONS[event.way], DIRECTIONS, chain)
    return asked
