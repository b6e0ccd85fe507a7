"""EAGLE from a folder in the released format, against the libraries' own modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from meteor_bench.core.model import VLM
from meteor_bench.core.request import Answer, Request
from meteor_bench.engine.encode import encode
from meteor_bench.engine.factory import build
from meteor_bench.models.eagle.model import untrained
from meteor_bench.models.eagle.processor import TEMPLATES
from tests import eagle, eagle_plain, tiny

OTHER_ORDER = ("det-1024", "clip-448", "convnext-1024")  # no published one; config.json decides


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return eagle.build()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.stack([eagle.seen(tiny.picture(seed)) for seed in (1, 2)])


@pytest.mark.parametrize("tag", eagle_plain.X5)
def test_each_encoder_equals_its_librarys_own_forward(vlm: VLM, pixels: torch.Tensor, tag: str) -> None:
    session = build(str(eagle.folder()), "none")
    name = tag.partition("-")[0]
    found = encode(session.engine, pixels[:, None], ["a", "b"]).tokens[name]
    for row, image in enumerate(pixels):
        want = eagle_plain.plain().encoded(tag, image)
        assert tuple(found.grid) == (1, *want.shape[:2])
        # EVA's reference works window by window; all others run the very same operations.
        exact = 1e-4 if tag == "det-1024" else 1e-5
        assert torch.allclose(found.x[row], want.flatten(0, 1), atol=exact, rtol=1e-5)


@pytest.mark.parametrize("tags", [eagle_plain.X5, OTHER_ORDER, eagle_plain.X5[:2]], ids=len)
def test_encoders_stand_in_the_order_of_the_configuration(tags: tuple[str, ...]) -> None:
    session = build(str(eagle.folder(tags=tags)), "none")
    assert list(session.vlm.towers) == [tag.partition("-")[0] for tag in tags]
    image = tiny.picture(3)
    dense = {
        name: t.x
        for name, t in encode(session.engine, session.vlm.processor.pixels([image])[None], ["a"]).tokens.items()
    }
    grids = {name: tower.grid(*session.vlm.native) for name, tower in session.vlm.towers.items()}
    aligned = session.vlm.fusion.align(dense, grids)
    want = eagle_plain.plain(tags).joined(eagle.seen(image))
    assert torch.allclose(aligned[0], want, atol=1e-4)
    parts = session.vlm.fusion.partials(aligned)
    assert list(parts) == list(session.vlm.towers)
    weight = eagle_plain.plain(tags).projector[0].weight
    assert torch.allclose(torch.stack(list(parts.values())).sum(0)[0], want @ weight.T, atol=1e-4)  # type: ignore[operator]


@pytest.mark.parametrize(
    "template", [t if t == "vicuna_v1" else pytest.param(t, marks=pytest.mark.slow) for t in TEMPLATES]
)
def test_answers_equal_generate_token_for_token(template: str) -> None:
    asked = tiny.requests(4, new_tokens=6)
    session = build(str(eagle.folder(template)), "none")
    found: dict[str, Answer] = {}
    session.answer(asked, lambda request, answer: found.update({request.key: answer}))
    reference = eagle.Reference(template)
    for request in asked:
        ids, _ = reference.answer(request, 6)
        assert found[request.key].text == reference.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert found[request.key].tokens["reference"] == found[request.key].tokens["final"] == 64


@pytest.mark.parametrize("size", [(40, 40), (300, 200), (31, 90), (256, 256)])
def test_an_image_is_padded_resized_and_normalised(vlm: VLM, size: tuple[int, int]) -> None:
    image = tiny.picture(4).resize(size)
    assert torch.allclose(vlm.processor.pixels([image])[0], eagle.seen(image), atol=1e-5)
    grey = image.convert("L")
    assert torch.allclose(vlm.processor.pixels([grey])[0], eagle.seen(grey), atol=1e-5)


@pytest.mark.parametrize("template", TEMPLATES)
def test_prompts_are_tokenised_piece_by_piece(template: str) -> None:
    processor = eagle.build(eagle.folder(template)).processor
    reference = eagle.Reference(template)
    before, after = reference.ids("what is it")
    prompt = processor.prompt("what is it")
    assert (list(prompt.before), list(prompt.after)) == (before, after)
    assert processor.prompt("<image>\nwhat is it") == prompt
    said = reference.tokenizer.decode([*before, *after], skip_special_tokens=False)
    assert "what is it" in said and said.count("<s>") <= 1
    moved = processor.prompt("what <image>is it")
    assert len(moved.before) > len(prompt.before) and len(moved.after) < len(prompt.after)


def test_the_end_of_a_turn_ends_an_answer() -> None:
    for template, mark in eagle.MARKS.items():
        vocabulary = eagle.Reference(template).tokenizer.get_vocab()
        assert vocabulary[mark] in eagle.build(eagle.folder(template)).processor.eos


def test_a_sequence_is_cut_at_the_checkpoints_length(vlm: VLM) -> None:
    prompt = vlm.processor.prompt("why " * 500)
    assert len(prompt.before) + 64 + len(prompt.after) == 400


def test_pickled_shards_give_the_same_model() -> None:
    ours, theirs = (eagle.build(eagle.folder(pickled=pickled)).modules() for pickled in (False, True))
    for name, module in ours.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, theirs[name].state_dict()[key])


def test_a_dtype_is_what_weights_get_and_rotations_do_not() -> None:
    session = build(str(eagle.folder()), "none", dtype="bfloat16")
    kinds: dict[str, set[torch.dtype]] = {}
    for module in session.vlm.modules().values():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            kinds.setdefault("exact" if "inv_freq" in name or "rotary" in name else "cast", set()).add(value.dtype)
    assert kinds["exact"] == {torch.float32} and torch.float32 not in kinds["cast"]
    answers: list[Answer] = []
    session.answer(tiny.requests(1), lambda _request, answer: answers.append(answer))
    assert len(answers) == 1


def test_random_weights_need_no_file_and_keep_activations_finite() -> None:
    config = eagle.config_json(eagle_plain.plain())
    vlm = untrained("tiny", config, "cpu", torch.float32)
    trained = eagle.build()
    for name, module in trained.modules().items():
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        assert {key: value.shape for key, value in vlm.modules()[name].state_dict().items()} == shapes
    prompt = vlm.processor.prompt("what is it")
    assert len(prompt.before) > 30 and 5 < len(prompt.after) < 20 and max(prompt.before) < 340
    x = vlm.towers["det"].embed(vlm.processor.pixels([tiny.picture(1)])).x
    assert x.isfinite().all()


def test_several_images_stand_one_after_another() -> None:
    session = build(str(eagle.folder()), "random", ratio=0.5)
    images = [tiny.picture(i) for i in (1, 2)]
    request = Request("a", "m", lambda: images, "what is it", 2)
    answers: list[Answer] = []
    session.answer([request], lambda _request, answer: answers.append(answer))
    assert answers[0].tokens["reference"] == 128 and answers[0].tokens["final"] == 64


def test_the_image_may_be_of_any_kind(vlm: VLM) -> None:
    for mode in ("L", "RGBA", "P"):
        image: Any = Image.new(mode, (20, 30))
        assert vlm.processor.pixels([image]).shape == (1, 3, 256, 256)
