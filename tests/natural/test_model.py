"""The natural models beside the libraries' own forward of their parts, and the benchmarks that are made for them."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import gelu, interpolate, layer_norm, linear
from transformers import LlamaForCausalLM

from meteor_bench.core.model import VLM
from meteor_bench.core.registry import MODELS
from meteor_bench.core.tower_flops import tower_flops
from meteor_bench.data import suites
from meteor_bench.data.shipped import check_data
from meteor_bench.engine.flop_counter import FlopMeter
from meteor_bench.models.natural.model import trained
from meteor_bench.models.natural.modules import NaturalConfig
from meteor_bench.models.natural.reader import text_trunk
from meteor_bench.models.natural.towers import efficientnet, vit
from meteor_bench.models.pocket.model import WEIGHTS
from meteor_bench.models.pocket.modules import build_decoder
from meteor_bench.runs.python_api import Session
from scripts import natural_figures
from scripts.natural.cache import Cache, encode
from scripts.natural.photographs import SPLITS
from scripts.natural.seeing import IndependentModel, model_of
from scripts.natural.words import THINGS
from scripts.natural.world import FAMILIES, MAKERS, make, split_rng
from scripts.pocket.sample import KIND, Sample

LENGTH = {"natural": 256, "natural-independent": 256 + 64 + 256}
MODEL = pytest.mark.parametrize("name", LENGTH)
MEAN, STD = ((torch.tensor(row)[:, None, None]) for row in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@cache
def sample(kind: str, seed: int = 0) -> Sample:
    return make(kind, split_rng("test", 100 + seed), "test")


def frames(shown: Sample) -> list[Image.Image]:
    images = shown.image if shown.is_clip else shown.image[None]
    return [Image.fromarray(image) for image in images]


@cache
def weights(name: str) -> dict[str, Tensor]:
    """All tensors in the shards of a shipped folder, in float32."""
    return {k: v.float() for file in (WEIGHTS / name).glob("*.safetensors") for k, v in load_file(file).items()}


@cache
def decoder() -> LlamaForCausalLM:
    """The Llama of `natural`, which is the other model's as well."""
    config = NaturalConfig(**json.loads((WEIGHTS / "natural" / "config.json").read_text(encoding="utf-8")))
    model = build_decoder(config.pocket)
    own = {k.removeprefix("decoder."): v for k, v in weights("natural").items() if k.startswith("decoder.")}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    return model.eval().requires_grad_(False)


def features(images: list[Image.Image]) -> dict[str, Tensor]:
    """{tower: [frames, side, side, d]} by the libraries' forward, pixels prepared here."""
    rgb = torch.stack([torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) for image in images]) / 255
    rows = (rgb - MEAN) / STD
    larger = interpolate(rows, scale_factor=8 / 7, mode="bilinear", align_corners=False)
    coarse = efficientnet().forward_features(larger).permute(0, 2, 3, 1)
    patches = vit()(rows).last_hidden_state[:, 1:].unflatten(1, (2 * coarse.shape[1], -1))
    assert patches.shape[1] == patches.shape[2] == 2 * coarse.shape[2]
    blue_first = interpolate(2 * rgb - 1, scale_factor=8 / 7, mode="bilinear", align_corners=False).flip(1)
    columns = text_trunk()(blue_first)  # [frames, 480, side, 4 side]
    letters = (columns[..., ::4] + columns[..., 1::4] + columns[..., 2::4] + columns[..., 3::4]) / 4
    return {"reader": letters.permute(0, 2, 3, 1), "efficientnet": coarse, "vit": patches}


def projected(x: Tensor, state: dict[str, Tensor], mlp: str) -> Tensor:
    inside = gelu(linear(x, state[f"{mlp}.0.weight"], state[f"{mlp}.0.bias"]))
    return linear(inside, state[f"{mlp}.2.weight"], state[f"{mlp}.2.bias"])


def library(name: str, images: list[Image.Image]) -> Tensor:
    """Visual tokens [1, N, D] of the weights in the files."""
    state, seen = weights(name), features(images)
    normed = {
        tower: layer_norm(x, x.shape[-1:], state[f"fusion.norm.{tower}.weight"], state[f"fusion.norm.{tower}.bias"])
        for tower, x in seen.items()
    }
    table = f"fusion.{'video' if len(images) > 1 else 'image'}_positions"
    if name == "natural":
        coarse = normed["efficientnet"].repeat_interleave(2, 1).repeat_interleave(2, 2)
        tokens = projected(torch.cat([normed["reader"], coarse, normed["vit"]], -1), state, "fusion.mlp")
        return (tokens.flatten(0, 2) + state[table].flatten(0, -2))[None]
    parts = [
        projected(x, state, f"fusion.mlp.{tower}").flatten(0, 2) + state[f"{table}.{tower}"].flatten(0, -2)
        for tower, x in normed.items()
    ]
    return torch.cat(parts)[None]


@MODEL
@pytest.mark.parametrize("kind", MAKERS)
@torch.inference_mode()
def test_it_answers_as_the_libraries_do(name: str, kind: str) -> None:
    session = Session(name, "none", 0.0, device="cpu")
    processor = session.model.processor
    for seed in range(2):
        shown = sample(kind, seed)
        tokens = library(name, frames(shown))
        assert tokens.shape[1] == LENGTH[name]
        for qa in shown.qas[:3]:
            prompt = processor.prompt(qa.question)
            ids = [torch.tensor([part]) for part in (prompt.before, prompt.after)]
            before, after = (decoder().model.embed_tokens(part) for part in ids)
            said = decoder().generate(
                inputs_embeds=torch.cat([before, tokens, after], 1), max_new_tokens=8, do_sample=False
            )
            expected = processor.decode([i for i in said[0].tolist() if i not in processor.eos])
            assert session.answer(frames(shown), qa.question, max_new_tokens=8).text == expected


@cache
def built(name: str = "natural") -> VLM:
    vlm: VLM = MODELS.load(name).build("cpu", torch.float32, None)
    return vlm


@MODEL
@pytest.mark.parametrize("kind", ["scene", "clip"])
@torch.inference_mode()
def test_training_sees_what_the_engine_sees(name: str, kind: str) -> None:
    """Cached features give the library's tokens, all of them or those of some cells."""
    shown = sample(kind)
    vlm = built(name)
    own = trained(WEIGHTS / name)
    model = model_of(own.config, vlm.processor.tokenizer).eval()  # type: ignore[attr-defined]
    model.vlm.load_state_dict(own.state_dict())
    assert tuple(vlm.towers) == own.config.towers
    seen = dict(zip(vlm.towers, encode(list(vlm.towers.values()), [shown], torch.float32), strict=True))
    index = torch.tensor([[0, 3, 17, 40, 100, 200, LENGTH[name] - 1]])
    expected = library(name, frames(shown))
    for chosen in (None, index):
        tokens = model.look(seen, shown.is_clip, chosen).tokens
        wanted = expected if chosen is None else expected[:, index[0]]
        assert (tokens - wanted).abs().max() < 1e-3
    assert expected.std() > 0.1


@pytest.mark.parametrize("kind", ["scene", "clip"])
@torch.inference_mode()
def test_projectors_begin_as_parts_of_the_shared_one(kind: str) -> None:
    """Before the nonlinearity those of its encoders add up to it; places are those of the cells that are covered."""
    shown = sample(kind)
    model = IndependentModel(trained(WEIGHTS / "natural-independent").config).eval()
    model.start(WEIGHTS)
    seen = {tower: x.flatten(0, 2)[None] for tower, x in features(frames(shown)).items()}
    cells = model.coarse(shown.is_clip)
    at = {**seen, "efficientnet": seen["efficientnet"][:, cells]}
    own, shared = model.vlm.fusion, model.shared
    parts = [own.mlp[tower][0](own.norm[tower](x)) for tower, x in at.items()]
    whole = shared.mlp[0](torch.cat([shared.norm[tower](x) for tower, x in at.items()], -1))
    assert len(parts) == 3 and whole.std() > 0.1
    assert torch.allclose(sum(parts) - 2 * shared.mlp[0].bias, whole, atol=1e-3)
    table = model.tables(torch.tensor([shown.is_clip]))[0]
    for token in (0, 13, 63):
        assert torch.allclose(table[256 + token], table[-256:][cells == token].mean(0), atol=1e-5)
    assert torch.equal(table[:256], table[-256:])


@pytest.mark.parametrize("kind", ["scene", "clip"])
def test_all_three_stages_of_meteor_run_on_a_projector_per_encoder(kind: str) -> None:
    """Inside and at the end of encoders, across all, inside the Llama; the budget is of natural's 256 tokens."""
    shown = sample(kind)
    exact = {"stage3": "fixed", "budgets": "uniform"}
    session = Session("natural-independent", "meteor", 0.76, parameters=exact, device="cpu")
    left = session.trace(frames(shown), shown.qas[0].question)
    kept = {(one.stage, one.tower): one.kept for one in left}
    assert {stage for stage, _ in kept} == {"encode", "tower", "fuse", "decode"}
    assert kept["tower", "vit"] < 256 and kept["tower", "efficientnet"] < 64 and kept["tower", "reader"] < 256
    entering = sum(kept["tower", name] for name in ("vit", "efficientnet", "reader"))
    assert entering > kept["fuse", "fused"] == round(256 * 0.24**0.4) > kept["decode", "llm"] == round(256 * 0.24)


@pytest.mark.parametrize("side", [224, 112])
@torch.inference_mode()
def test_flops_of_both_sizes_are_counted(side: int) -> None:
    for tower in built("natural-independent").towers.values():
        with FlopMeter(torch.device("cpu")) as meter, meter.stage("it"):
            tokens = tower.embed(torch.zeros(1, 3, side, side))
            x = tokens.x
            for block in range(tower.depth):
                x = tower.feed(block, tower.attend(block, x, None, None))
        assert meter.read_flops()["it"] == tower_flops(tower, side, side)
        cell = 28 if tower.name == "efficientnet" else 14
        assert tower.grid(side, side).n == (side // cell) ** 2


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
    whole, cut = (Cache(tmp_path / name, "calibration") for name in ("whole", "cut"))
    whole.fill(2, size=3)
    cut.fill(1, size=3)
    assert cut.refresh() == 3
    cut.fill(2, size=3)
    assert cut.refresh() == whole.refresh() == 6
    assert all(
        (a == b).all() for a, b in zip(cut.features([1, 5]).values(), whole.features([1, 5]).values(), strict=True)
    )
    assert all((a == b).all() for a, b in zip(cut.staged([1, 5]), whole.staged([1, 5]), strict=True))
    assert [s.qas for s in cut.samples] == [s.qas for s in whole.samples] and cut.samples[0].image.size == 3


@MODEL
def test_a_figure_for_each_method(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural_figures, "SAMPLES", ("natural_gqa/0", "natural_videomme/1"))
    natural_figures.main(["--methods", "evoprune", "--model", name, "--out", str(tmp_path)])
    (file,) = tmp_path.iterdir()
    with Image.open(file) as figure:
        assert "evoprune" in file.name and figure.width > 200
