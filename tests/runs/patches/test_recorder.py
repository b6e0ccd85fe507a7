"""What a recorder says of each point, against counts and group maps worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.request import Answer
from meteor_bench.core.tokens import Grid, Tokens
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.session import Session
from meteor_bench.runs.patches.picture import PAPER, draw
from meteor_bench.runs.patches.recorder import ALONE, DROPPED, Panel, PatchRecorder, Point
from meteor_bench.runs.patches.trace_sample import frames_of
from tests import tiny


def filmed(model: str, method: str, frames: int = 1) -> tuple[list[Point], Answer]:
    session = Session(tiny.build(model), make_pruner(method), TokenBudget.from_ratio(0.5))
    recorder, answers = PatchRecorder(), list[Answer]()
    asked = tiny.requests(1, frames=frames)
    with session.engine.instrumented(recorder=recorder):
        session.answer(asked, lambda _, answer: answers.append(answer))
    return recorder.points(session.engine, session.vlm.processor.scene(asked[0].media())), answers[0]


@pytest.mark.parametrize("model", tiny.MODELS)
@pytest.mark.parametrize("method", ["fastv", "evoprune", "visionzip"])
def test_the_panels_add_up(model: str, method: str) -> None:
    points, answer = filmed(model, method, frames=2)
    left = {panel.tower: panel.kept for point in points if point.stage == "encode" for panel in point.panels}
    assert left == answer.tokens["towers"]
    (fused,) = (point for point in points if point.stage == "fuse")
    assert fused.kept == answer.tokens["fused"]
    assert points[-1].kept == answer.tokens["final"]
    for point in points:
        standing = {g for panel in point.panels for g in panel.group if g >= 0}
        assert point.stage == "encode" or len(standing) == point.kept
        for panel in point.panels:
            assert len(panel.group) == panel.grid.n and panel.grid.t == 2
            assert panel.kept == sum(group == panel.start + cell for cell, group in enumerate(panel.group))


def test_an_independent_fusion_is_split_by_encoder() -> None:
    points, _ = filmed("independent", "fastv")
    assert [panel.tower for panel in points[-1].panels] == ["a", "b", "c"]
    assert [panel.grid.n for panel in points[-1].panels] == [64, 64, 16]
    assert [panel.start for panel in points[-1].panels] == [0, 64, 128]
    assert len(filmed("shared", "fastv")[0][-1].panels) == 1


def test_tiles_are_put_back_where_they_came_from() -> None:
    """LLaVA-NeXT feeds a sequence made of a small copy's and the tiles' cells, another order than the encoder's."""
    session = Session(tiny.build("llava_next"), make_pruner("fastv"), TokenBudget.from_ratio(0.5))
    asked = tiny.requests(1)[0]
    pixels, scene = session.vlm.processor.look(asked.media())
    seen: dict[str, Tokens] = {}
    recorder = PatchRecorder()

    def both(kind: str, point: int, tower: str, tokens: Tokens) -> None:
        recorder(kind, point, tower, tokens)
        seen[kind] = tokens

    with session.engine.instrumented(recorder=both):
        session.answer([asked], lambda *_: None)
    last = recorder.points(session.engine, scene)[-1].panels[0]
    source = session.vlm.at(scene).fusion.cells({"clip": last.grid})["clip"]
    assert sorted(source.tolist()) == list(range(80)) != source.tolist()
    kept = {int(source[place]) for place in seen["decode"].origin[0][seen["decode"].visual[0]]}
    assert {cell for cell, colour in enumerate(last.colour) if colour == ALONE} == kept and len(kept) == last.kept == 40
    frames = frames_of(asked.media(), pixels)
    assert last.grid.t == len(frames) == 5
    assert frames[0].size == tuple(pixels.shape[:1:-1])


@pytest.mark.parametrize("model", tiny.FAMILIES)
def test_every_family_is_shown(model: str) -> None:
    points, answer = filmed(model, "fastv")
    assert points[-1].kept == answer.tokens["final"]
    assert {panel.tower for panel in points[0].panels} == set(answer.tokens["towers"])


def test_frames_are_what_the_model_looks_at() -> None:
    whole = [tiny.picture(1)]
    assert frames_of(whole, torch.zeros(1, 3, 64, 64)) == whole
    pixels = torch.stack([torch.full((1, 3, 8, 8), -2.0), torch.full((1, 3, 8, 8), 2.0)]).flatten(0, 1)
    cropped = frames_of([tiny.picture(1).resize((128, 64))] * 2, pixels)
    assert [np.asarray(frame).mean() for frame in cropped] == [0, 255] and cropped[0].size == (8, 8)


@pytest.mark.parametrize("model", ["shared", "single"])
def test_merged_groups_that_touch_differ_in_colour(model: str) -> None:
    points, _ = filmed(model, "evoprune")
    merged = 0
    for panel in (panel for point in points for panel in point.panels):
        group, colour = (np.array(v).reshape(panel.grid) for v in (panel.group, panel.colour))
        sizes = {g: int((group == g).sum()) for g in set(panel.group)}
        for g, c in zip(panel.group, panel.colour, strict=True):
            assert (c == DROPPED) == (g < 0) and (c == ALONE) == (g >= 0 and sizes[g] == 1)
        for axis in (1, 2):
            one, other = (np.moveaxis(v, axis, 0) for v in (group, colour))
            unlike = (one[1:] != one[:-1]) & (other[1:] > ALONE) & (other[:-1] > ALONE)
            merged += int(unlike.sum())
            assert not (unlike & (other[1:] == other[:-1])).any()
    assert merged > 0


def test_a_film_of_two_samples_is_refused() -> None:
    session = Session(tiny.build("shared"), make_pruner("fastv"), TokenBudget.from_ratio(0.5))
    recording = session.engine.instrumented(recorder=PatchRecorder())
    with recording, pytest.raises(ValueError, match="one sample, not of 2"):
        session.answer(tiny.requests(4), lambda *_: None)


def test_kept_patches_are_drawn_as_they_are_and_dropped_ones_faded() -> None:
    picture = tiny.picture(1).resize((64, 64))
    group = (0, -1, 2, 3)
    panel = Panel("a", "a", Grid(1, 2, 2), 0, group, (ALONE, DROPPED, ALONE, ALONE), 3)
    drawn, pixels = (np.asarray(p).astype(int) for p in (draw(panel, [picture], 64), picture))
    assert (drawn[:32, :32] == pixels[:32, :32]).all() and (drawn[32:] == pixels[32:]).all()
    dropped = drawn[:32, 32:]
    assert np.ptp(dropped, axis=-1).max() <= 3 and abs(np.median(dropped) - np.mean(PAPER)) < 40
    assert dropped.min() < np.median(dropped) - 20, "lines show it on white, too"


def test_dropped_patches_of_a_white_page_are_seen() -> None:
    white = Image.new("RGB", (64, 32), (255, 255, 255))
    panel = Panel("a", "a", Grid(1, 1, 2), 0, (0, -1), (ALONE, DROPPED), 1)
    drawn = np.asarray(draw(panel, [white], 64)).astype(int)
    assert drawn[:, :32].min() == 255 and drawn[:, 32:].max() < 200


def test_merged_patches_are_tinted_and_marked() -> None:
    grey = Image.new("RGB", (60, 30), (128, 128, 128))
    panel = Panel("a", "a", Grid(1, 1, 2), 5, (5, 5), (1, 1), 1)
    drawn = np.asarray(draw(panel, [grey], 60)).astype(int)
    assert (drawn[2, 2] == drawn[2, 57]).all() and drawn[2, 2, 2] > drawn[2, 2, 0] + 50  # the first tint is blue
    assert drawn[15, 15].max() < 40 and drawn[15, 45].max() > 100  # the dot is on the cell that stands for both


def test_frames_stand_side_by_side() -> None:
    frames = [Image.new("RGB", (32, 16), (50 * i, 0, 0)) for i in range(3)]
    panel = Panel("a", "a", Grid(3, 1, 1), 0, (0, 1, 2), (ALONE,) * 3, 3)
    drawn = np.asarray(draw(panel, frames, 66))
    assert drawn.shape == (2 * 16 + 2, 66, 3)
    assert [int(drawn[8, 10, 0]), int(drawn[8, 50, 0]), int(drawn[26, 10, 0])] == [0, 50, 100]
    assert tuple(drawn[26, 50]) == PAPER
