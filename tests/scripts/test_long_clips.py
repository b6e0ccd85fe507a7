"""Long clips: answers worked out again from what is there frame by frame, and pixels that show it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from scripts.pocket import long_clips as world
from scripts.pocket.canvas import RGB
from scripts.pocket.long_clips import LongClip, long_clip
from scripts.pocket.sample import STEPS
from scripts.pocket.words import COLORS, SHAPES, check_known, vocabulary
from scripts.pocket.world import SPLITS, split_rng


@cache
def drawn(frames: int, split: str = "eval", first: int = 0, number: int = 6) -> tuple[LongClip, ...]:
    return tuple(long_clip(split_rng(split, seed), split, frames) for seed in range(first, first + number))


ALL = pytest.mark.parametrize("frames", [8, 32, *(pytest.param(n, marks=pytest.mark.slow) for n in (16, 64))])


def seen(clip: LongClip) -> list[list[tuple[str, str, int, int]]]:
    """Frame by frame the things in it: colour, shape, upper left corner."""
    shown = []
    for t in range(clip.story.frames):
        there = [e for e in clip.story.events if e.first <= t <= e.last]
        shown.append([(COLORS[e.color], SHAPES[e.shape], *world.place(e, t, clip.story.camera)) for e in there])
    return shown


def appearances(clip: LongClip) -> list[tuple[int, str, str]]:
    """Frame, colour and shape of each thing where the frame before has no thing of that colour and shape."""
    found, before = [], set()
    for t, things in enumerate(seen(clip)):
        now = {(color, shape) for color, shape, _, _ in things}
        found += [(t, *thing) for thing in sorted(now - before)]
        before = now
    return found


@ALL
def test_every_answer_follows_from_what_the_frames_show(frames: int) -> None:
    asked = defaultdict(int)
    for clip in drawn(frames):
        shown = appearances(clip)
        order = [color for _, color, _ in shown]
        for qa in clip.qas:
            words = qa.question.removesuffix(STEPS).strip().rstrip("?").split()
            named = [word for word in words if word in COLORS]
            at = [t for t, color, _ in shown if color in named]
            if qa.family == "color":
                wanted = {color for _, color, shape in shown if shape == words[-1]}
            elif qa.family == "shape":
                wanted = {shape for _, color, shape in shown if color == named[0]}
            elif qa.family == "count":
                wanted = {str(len(at))}
                assert qa.chain.split() == [f"frame{1 + 4 * t // frames}" for t in at]
            elif qa.family == "when":
                wanted = {
                    f"frame{1 + 4 * t // frames}" for t, things in enumerate(seen(clip)) if named[0] in str(things)
                }
            elif qa.family == "order":
                wanted = {order[{"first": 0, "last": -1}[words[-1]]]}
            elif qa.family == "before":
                assert order.count(named[0]) == order.count(named[1]) == 1
                wanted = {"yes" if order.index(named[0]) < order.index(named[1]) else "no"}
            elif qa.family == "next":
                assert order.count(named[0]) == 1
                wanted = {order[order.index(named[0]) + (1 if "after" in words else -1)]}
            elif qa.family == "presence":
                wanted = {"yes" if at else "no"}
            else:
                path = [(x, y) for things in seen(clip) for color, _, x, y in things if color == named[0]]
                dx, dy = (end - start for start, end in zip(path[0], path[-1], strict=True))
                wanted = {("left", "right")[dx > 0] if dx else ("up", "down")[dy > 0]}
                assert (dx == 0) != (dy == 0)
            assert wanted == {qa.answer}, qa
            asked[qa.family] += 1
    assert set(asked) == set(world.FAMILIES)


@ALL
def test_events_are_short_apart_and_inside_the_frame(frames: int) -> None:
    for clip in drawn(frames):
        events = clip.story.events
        assert len({e.first for e in events}) == len(events) and events[0].first > 0
        short = [e for e in events if e.way is None]
        assert all(1 <= e.last - e.first + 1 <= world.MOST_SHORT for e in short)
        assert all(b.first - a.last > 1 for a, b in itertools.pairwise(short))
        for e in events:
            for t in range(e.first, e.last + 1):
                assert all(0 <= at <= world.SIDE - e.size for at in world.place(e, t, clip.story.camera))


def test_the_pixels_show_the_events_and_the_camera() -> None:
    for clip in drawn(32):
        assert clip.image.shape == (32, 64, 64, 3) and clip.image.dtype == np.uint8
        last = clip.story.events[-1]  # what is drawn last covers the others
        for t in (last.first, last.last):
            x, y = world.place(last, t, clip.story.camera)
            inside = clip.image[t, y : y + last.size, x : x + last.size].reshape(-1, 3).astype(float)
            assert (np.abs(inside - RGB[last.color]).max(1) < 60).mean() > 0.1
        empty = [t for t, things in enumerate(seen(clip)) if not things]
        differ = np.abs(clip.image[empty[0]].astype(int) - clip.image[empty[-1]].astype(int)).mean()
        assert clip.story.moving or differ < 12
    assert 1 <= sum(clip.story.moving for clip in drawn(32)) <= 5


def test_splits_share_no_clip_and_seeds_give_the_same_again() -> None:
    stories = {}
    for split in SPLITS:
        for clip in drawn(8, split):
            assert stories.setdefault(clip.story.events, split) == split
    again = long_clip(split_rng("eval", 3), "eval", 32)
    assert np.array_equal(again.image, drawn(32)[3].image) and again.qas == drawn(32)[3].qas


@ALL
def test_questions_are_in_the_models_words(frames: int) -> None:
    vocab = vocabulary()
    for clip in drawn(frames):
        for qa in clip.qas:
            check_known(f"{qa.question} {qa.target}", vocab)
            assert qa.answer in qa.options and qa.question.endswith(STEPS) == (qa.family in ("count", "direction"))
