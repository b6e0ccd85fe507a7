"""The training of long clips sees what the engine sees, and a run is taken up where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from meteor_bench.core.tokens import Tokens
from meteor_bench.models.pocket.model import WEIGHTS, load
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.batches import Curriculum, pack
from scripts.pocket.long_clips import FAMILIES, long_clip
from scripts.pocket.low_rank import export_addition
from scripts.pocket.phase_clips import CHANGES, ClipsRecipe, choose, encode, logits_of, look, start_model, train_clips
from scripts.pocket.world import split_rng

POCKET = WEIGHTS / "pocket"


@pytest.mark.slow
def test_what_is_exported_answers_as_training_saw_it(tmp_path: Path) -> None:
    recipe = ClipsRecipe(minutes=0.01, tokens=256, questions=3, rank=2, eval_clips=1)
    addition = train_clips(tmp_path, POCKET, 0, recipe)
    assert torch.load(tmp_path / "clips.pt", weights_only=True)["step"] > 0
    export_addition(addition, POCKET, tmp_path / "mine", **CHANGES)
    shipped = load("mine", "cpu", torch.float32, tmp_path / "mine")
    model = start_model(POCKET)
    with torch.no_grad():
        for name, value in addition.params.items():
            model.get_parameter(name).copy_(value)
        clip = long_clip(split_rng("calib", 1), "calib", 8)
        tokens = look(model, encode(model, [clip])).tokens[0]
        pixels = shipped.processor.pixels([Image.fromarray(frame) for frame in clip.image])
        grids = {name: tower.grid(64, 64)._replace(t=8) for name, tower in shipped.towers.items()}
        seen = {name: x.flatten(0, 1)[None] for name, x in model.encode(pixels).items()}
        fusion = shipped.fusion
        got = fusion.place(fusion.project(Tokens.dense(fusion.align(seen, grids), fusion.common(grids)))).x[0]
    assert torch.allclose(got, tokens, atol=5e-3), "half precision is all that lies between them"


def test_blind_and_whole_differ_and_questions_are_drawn_by_family() -> None:
    rng = np.random.default_rng(0)
    model, tokenizer = start_model(POCKET), PocketTokenizer(POCKET / "tokenizer.json")
    (clip,) = encode(model, [long_clip(split_rng("calib", 2), "calib", 8)])
    weights = Curriculum(dict.fromkeys(FAMILIES, "clip")).weights
    chosen = choose(clip, rng, weights, 5)
    assert len(chosen) == 5 and len(set(map(id, chosen))) == 5
    only = {family: 1.0 if family == "order" else 1e-9 for family in FAMILIES}
    assert {qa.family for qa in choose(clip, rng, only, 2)} == {"order"}
    packed = pack([chosen], tokenizer, FAMILIES)
    with torch.no_grad():
        whole, part, blind = (logits_of(model, [clip], packed, keep, rng) for keep in (1.0, 0.5, 0.0))
    assert whole.shape == part.shape == blind.shape
    assert not torch.allclose(whole, blind)


@pytest.mark.parametrize("frames", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_the_tables_begin_as_pockets_stretched(frames: int) -> None:
    fusion = start_model(POCKET).fusion
    table = fusion.long_positions(frames).detach()
    assert table.shape == (frames, 16, 192)
    four = torch.as_tensor(np.asarray(load("pocket", "cpu", torch.float32).fusion.modules_.video_positions)).mean(1)
    quarters = table.mean(1).unflatten(0, (4, -1)).mean(1)
    near = torch.cdist(quarters, four).argmin(1)
    assert near.tolist() == [0, 1, 2, 3]
