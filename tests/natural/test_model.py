"""The model `natural` beside the libraries' own forward of its parts, and the benchmarks that are made for it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from meteor_bench.core.model import VLM
from meteor_bench.core.registry import MODELS
from meteor_bench.data import suites
from meteor_bench.data.shipped import check_data
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.models.checkpoint import load_weights
from meteor_bench.models.natural.modules import NaturalConfig, NaturalTrained
from meteor_bench.models.natural.towers import efficientnet, vit
from meteor_bench.models.pocket.model import WEIGHTS
from meteor_bench.models.sizes import tower_flops
from meteor_bench.runs.python_api import Session
from scripts import natural_figures
from scripts.natural.cache import Cache, encode
from scripts.natural.phases import NaturalModel
from scripts.natural.photographs import SPLITS
from scripts.natural.words import THINGS
from scripts.natural.world import FAMILIES, MAKERS, make, split_rng
from scripts.pocket.sample import KIND, Sample

FOLDER = WEIGHTS / "natural"
MEAN, STD = ((torch.tensor(row)[:, None, None]) for row in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@cache
def sample(kind: str, seed: int = 0) -> Sample:
    return make(kind, split_rng("test", 100 + seed), "test")


def frames(shown: Sample) -> list[Image.Image]:
    images = shown.image if shown.is_clip else shown.image[None]
    return [Image.fromarray(image) for image in images]


@cache
def trained() -> NaturalTrained:
    with torch.no_grad():
        model = NaturalTrained(NaturalConfig())
    load_weights(model, FOLDER, ties={"decoder.lm_head.weight": "decoder.model.embed_tokens.weight"})
    return model.float().eval().requires_grad_(False)


def library(images: list[Image.Image]) -> Tensor:
    """Visual tokens [1, 256, D] by the libraries' forward, pixels prepared here."""
    model = trained()
    rgb = torch.stack([torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) for image in images]) / 255
    rows = (rgb - MEAN) / STD
    patches = vit()(rows).last_hidden_state[:, 1:]
    larger = interpolate(rows, scale_factor=8 / 7, mode="bilinear", align_corners=False)
    coarse = efficientnet().forward_features(larger)
    side = round(patches.shape[1] ** 0.5)
    assert coarse.shape[-1] * 2 == side
    coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(2).transpose(1, 2)
    table = model.fusion.positions(len(images) > 1).reshape(len(images), -1, model.config.hidden_size)
    return (model.fusion.join({"vit": patches, "efficientnet": coarse}) + table).reshape(1, 256, -1)


@pytest.mark.parametrize("kind", MAKERS)
@torch.inference_mode()
def test_it_answers_as_the_libraries_do(kind: str) -> None:
    session, decoder = Session("natural", "none", 0.0, device="cpu"), trained().decoder
    processor = session.model.processor
    for seed in range(2):
        shown = sample(kind, seed)
        tokens = library(frames(shown))
        for qa in shown.qas[:3]:
            prompt = processor.prompt(qa.question)
            ids = [torch.tensor([part]) for part in (prompt.before, prompt.after)]
            before, after = (decoder.model.embed_tokens(part) for part in ids)
            said = decoder.generate(
                inputs_embeds=torch.cat([before, tokens, after], 1), max_new_tokens=8, do_sample=False
            )
            expected = processor.decode([i for i in said[0].tolist() if i not in processor.eos])
            assert session.answer(frames(shown), qa.question, max_new_tokens=8).text == expected


@cache
def built() -> VLM:
    vlm: VLM = MODELS.load("natural").build("cpu", torch.float32, None)
    return vlm


@pytest.mark.parametrize("kind", ["scene", "clip"])
@torch.inference_mode()
def test_training_sees_what_the_engine_sees(kind: str) -> None:
    """Cached features, dropped before they are projected, are the library's tokens of the same cells."""
    shown = sample(kind)
    vlm = built()
    model = NaturalModel(NaturalConfig(), vlm.processor.tokenizer).eval()  # type: ignore[attr-defined]
    model.vlm.load_state_dict(trained().state_dict())
    features = dict(zip(vlm.towers, encode(list(vlm.towers.values()), [shown], torch.float32), strict=True))
    index = torch.tensor([[0, 3, 17, 40, 100, 200, 255]])
    expected = library(frames(shown))
    for chosen in (None, index):
        tokens = model.look(features, shown.is_clip, chosen).tokens
        wanted = expected if chosen is None else expected[:, index[0]]
        assert (tokens - wanted).abs().max() < 1e-3
    assert expected.std() > 0.1


@pytest.mark.parametrize("side", [224, 112])
@torch.inference_mode()
def test_flops_of_both_sizes_are_counted(side: int) -> None:
    for tower in built().towers.values():
        with FlopMeter(torch.device("cpu")) as meter, meter.stage("it"):
            tokens = tower.embed(torch.zeros(1, 3, side, side))
            x = tokens.x
            for block in range(tower.depth):
                x = tower.feed(block, tower.attend(block, x, None, None))
        assert meter.read_flops()["it"] == tower_flops(tower, side, side)
        assert tower.grid(side, side).n == {("vit", 224): 256, ("vit", 112): 64}.get(
            (tower.name, side), (side // 28) ** 2
        )


@pytest.mark.parametrize("split", SPLITS)
def test_labels_bear_the_answers_out(split: str) -> None:
    """Labels come from the alpha masks, answers from the places: neither is made of the other."""
    asked = Counter[str]()
    for seed in range(24):
        shown = make("scene", split_rng(split, seed), split)  # type: ignore[arg-type]
        there = {THINGS[value - 1] for value in np.unique(shown.labels[KIND]) if value}
        for qa in shown.qas:
            named = [word for word in qa.question.replace("?", "").replace(",", "").split() if word in THINGS]
            if qa.family == "presence":
                assert (named[0] in there) == (qa.answer == "yes")
            elif qa.family == "location":
                rows, cols = np.nonzero(shown.labels[KIND] == 1 + THINGS.index(named[0]))
                middle = (rows.min() + rows.max() + 1) / 2, (cols.min() + cols.max() + 1) / 2
                place = f"{'top' if middle[0] < 8 else 'bottom'}-{'left' if middle[1] < 8 else 'right'}"
                assert qa.answer == place
            elif qa.family == "which":
                assert there & set(named) == {qa.answer}
            else:
                continue
            asked[qa.family] += 1
    assert min(asked.values()) > 10 and len(asked) == 3


@pytest.mark.parametrize("task", suites.suite_tasks("natural"))
def test_every_benchmark_has_its_questions_and_no_constant_answer_wins(task: str) -> None:
    row = suites.benchmark(task)
    check_data(row.folder / "data")
    (file,) = (row.folder / "data").glob("*.parquet")
    assert file.name in (row.folder / f"{task}.yaml").read_text(encoding="utf-8")
    table = parquet.read_table(file, columns=["family", "answer", "media_key", "frames"]).to_pydict()
    assert len(table["answer"]) == row.n == 300 and len(set(table["media_key"])) >= 60
    assert set(table["frames"]) == {4 if task == "natural_videomme" else 1} and set(table["family"]) <= set(FAMILIES)
    for family in set(table["family"]):
        answers = Counter(a for f, a in zip(table["family"], table["answer"], strict=True) if f == family)
        assert max(answers.values()) / answers.total() < 0.6, answers.most_common(3)


def test_a_cache_that_was_stopped_goes_on(tmp_path: Path) -> None:
    config = NaturalConfig()
    whole, cut = (Cache(tmp_path / name, "calibration", config) for name in ("whole", "cut"))
    whole.fill(2, size=3)
    cut.fill(1, size=3)
    assert cut.refresh() == 3
    cut.fill(2, size=3)
    assert cut.refresh() == whole.refresh() == 6
    assert all(
        (a == b).all() for a, b in zip(cut.features([1, 5]).values(), whole.features([1, 5]).values(), strict=True)
    )
    assert [s.qas for s in cut.samples] == [s.qas for s in whole.samples] and cut.samples[0].image.size == 3


def test_a_figure_for_each_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural_figures, "SAMPLES", ("natural_gqa/0", "natural_videomme/1"))
    natural_figures.main(["--methods", "evoprune", "--out", str(tmp_path)])
    (file,) = tmp_path.iterdir()
    with Image.open(file) as figure:
        assert "evoprune" in file.name and figure.width > 200
