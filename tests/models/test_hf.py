"""Families that transformers ships, from folders that it wrote: equal to its own forward and `generate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import ModelError
from meteor_bench.core.request import Answer, Request
from meteor_bench.engine.factory import build
from meteor_bench.engine.load_model import resolve_model
from meteor_bench.engine.session import Session
from meteor_bench.methods.none import NoPruning
from meteor_bench.models.hf import hub_key
from tests import hub_pieces, hubs, tiny

NEW_TOKENS = 6
families = pytest.mark.parametrize("family", hubs.FAMILIES)


def images(*sizes: tuple[int, int]) -> Request:
    """A question about images of that width and height."""

    def media() -> list[Image.Image]:
        return [tiny.picture(7 * i + size[0]).resize(size) for i, size in enumerate(sizes)]

    return Request("", "", media, tiny.QUESTIONS[len(sizes)], NEW_TOKENS)


def alike(family: str) -> list[Request]:
    """Single images of several shapes, several images, a clip."""
    shapes = [images((128, 128)), images((100, 40)), images((30, 90)), images((64, 64), (64, 64))]
    mixed = [images((128, 128), (30, 90), (90, 41))]
    clips = [*tiny.requests(1, 4, NEW_TOKENS, seed=5), *tiny.requests(1, 13, NEW_TOKENS, seed=9)]
    asked = [*shapes, *mixed, *clips]
    return [Request(f"{i}", f"{i}", r.media, r.question, r.max_new_tokens) for i, r in enumerate(asked)]


def answered(session: Session, asked: list[Request], **more: object) -> dict[str, Answer]:
    """What the session says."""
    out: dict[str, Answer] = {}
    session.answer(asked, lambda request, answer: out.update({request.key: answer}), **more)  # type: ignore[arg-type]
    return out


@families
def test_answers_are_those_of_generate(family: str) -> None:
    session, reference = build(str(hubs.folder(family)), "none"), hubs.Reference(family)
    asked = alike(family)
    got = answered(session, asked, batch_size=3)
    for request in asked:
        ids, _ = reference.answer(request, NEW_TOKENS)
        said = reference.processor.tokenizer.decode(ids, skip_special_tokens=True)
        assert got[request.key].text == said.strip()
        assert got[request.key].tokens["answer"] == len(ids)
        read = reference.inputs(request)["input_ids"].shape[1]
        assert got[request.key].tokens["llm_input"] + got[request.key].tokens["text"] == read


@families
def test_random_weights_take_the_same_shape(family: str) -> None:
    card = resolve_model(str(hubs.folder(family)), NoPruning())
    assert card.random is not None
    made, trained = card.random("cpu", torch.float32), hubs.build(family)
    for name, module in trained.modules().items():
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        assert shapes == {key: value.shape for key, value in made.modules()[name].state_dict().items()}
    assert made.digest == "random"
    one, two = (
        answered(Session(vlm, NoPruning(), TokenBudget(1.0)), tiny.requests(2, new_tokens=2)) for vlm in (made, trained)
    )
    assert {k: a.flops["prefill"] > 0 for k, a in one.items()} == dict.fromkeys(one, True)
    if not family.startswith(("qwen", "internvl", "smolvlm")):  # whose sizes and tiles stand in their processors' files
        assert {k: (a.tokens["llm_input"], a.flops["fuse"]) for k, a in one.items()} == {
            k: (a.tokens["llm_input"], a.flops["fuse"]) for k, a in two.items()
        }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("language_model.model.layers.0.mlp.up_proj.weight", "model.language_model.layers.0.mlp.up_proj.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("vision_tower.vision_model.embeddings.class_embedding", "model.vision_tower.embeddings.class_embedding"),
        ("vision_tower.embeddings.class_embedding", "model.vision_tower.embeddings.class_embedding"),
        ("model.vision_tower.vision_model.post_layernorm.bias", "model.vision_tower.post_layernorm.bias"),
        ("multi_modal_projector.linear_1.bias", "model.multi_modal_projector.linear_1.bias"),
        ("image_newline", "model.image_newline"),
        ("vision_tower.vision_model.embeddings.position_ids", None),
        ("language_model.model.layers.3.self_attn.rotary_emb.inv_freq", None),
        ("model.language_model.norm.weight", "model.language_model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_names_of_older_checkpoints(old: str, new: str | None) -> None:
    assert hub_key(old) == new


def _no_processor(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def _other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] += 8
    (folder / "config.json").write_text(json.dumps(config))


def _several_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_feature_layer": [-2, -1]}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_no_processor, "holds no LlavaProcessor"),
        (_other_shape, "up_proj.weight' has shape|gate_proj.weight' has shape|down_proj.weight' has shape"),
        (_several_layers, r"joins features of layers \[-2, -1\]; only one layer is supported"),
    ],
)
def test_a_broken_folder_is_one_line(tmp_path: Path, harm, message: str) -> None:
    folder = shutil.copytree(hubs.folder("llava"), tmp_path / "broken")
    harm(folder)
    with pytest.raises(ModelError, match=message) as caught:
        hub_pieces.quiet(build, str(folder), "none")
    assert "\n" not in str(caught.value)
