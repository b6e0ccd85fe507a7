"""A checkpoint that adds to a shipped one, against the sums worked out by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from meteor_bench.core.errors import ModelError
from meteor_bench.models.pocket.model import WEIGHTS, load
from meteor_bench.models.pocket.modules import load_pocket
from tests.models.pocket.harm import harmed

THROUGH = WEIGHTS / "pocket-through"
ONE = "decoder.model.layers.0.self_attn.q_proj.weight"


def test_every_weight_is_the_sum() -> None:
    base = load_pocket(WEIGHTS / "pocket-independent").state_dict()
    state = {k: v.double() for k, v in load_file(THROUGH / "model.safetensors").items()}
    own = dict(load("pocket-through", "cpu", torch.float32).decoder.model.named_parameters())
    moved = 0
    for name, value in own.items():
        if name == "lm_head.weight":
            continue  # the embedding's; see the next test
        want = base[f"decoder.{name}"].double()
        if f"decoder.{name}.b" in state:
            want = want + state[f"decoder.{name}.b"] @ state[f"decoder.{name}.a"]
            moved += 1
        elif f"decoder.{name}.whole" in state:
            want = want + state[f"decoder.{name}.whole"]
        assert torch.allclose(value.double(), want, atol=1e-6), name
    assert moved >= 35, "seven matrices in each of five layers"


def test_the_embedding_and_the_output_layer_stay_one() -> None:
    decoder = load("pocket-through", "cpu", torch.float32).decoder.model
    assert torch.equal(decoder.lm_head.weight, decoder.model.embed_tokens.weight)


def test_its_digest_is_of_both(tmp_path: Path) -> None:
    folder = shutil.copytree(THROUGH, tmp_path / "mine")
    whole = load("x", "cpu", torch.float32, folder).digest
    assert whole == load("pocket-through", "cpu", torch.float32).digest
    assert whole != load("pocket-independent", "cpu", torch.float32).digest
    state = load_file(folder / "model.safetensors")
    state[f"{ONE}.b"] = state[f"{ONE}.b"] + 1
    save_file(state, folder / "model.safetensors")
    assert load("x", "cpu", torch.float32, folder).digest != whole


def test_what_an_index_names_is_what_is_added_and_what_the_digest_is_of(tmp_path: Path) -> None:
    whole = load("pocket-through", "cpu", torch.float32)
    folder = shutil.copytree(THROUGH, tmp_path / "mine")
    state = load_file(folder / "model.safetensors")
    save_file({f"{ONE}.whole": torch.ones(192, 192)}, folder / "model.safetensors")  # a stale one
    listed = {key: f"{key.rpartition('.')[2]}.safetensors" for key in state}
    for name in set(listed.values()):
        save_file({key: value for key, value in state.items() if listed[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    again = load("x", "cpu", torch.float32, folder)
    own = whole.decoder.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in again.decoder.model.state_dict().items())


def _base(value: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "base": value}))

    return harm


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_base("../secret"), r"has base='\.\./secret'; expected one of pocket, pocket-independent"),
        (harmed(lambda s: s.update({"x.c": torch.ones(1)})), r"has 'x\.c'; expected the name of a weight"),
        (harmed(lambda s: s.update({"x.whole": torch.ones(1)})), r"adds to 'x', which the model does not have"),
        (harmed(lambda s: s.pop(f"{ONE}.a")), r"expected \.b \[out, rank\] and \.a \[rank, in\]"),
        (
            harmed(lambda s: s.update({f"{ONE}.b": torch.ones(3, 16)})),
            r"adds \[3, 192\] to .*, which is \[192, 192\]",
        ),
        (harmed(lambda s: s[f"{ONE}.a"].fill_(torch.nan)), r"that are not finite"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), r"is corrupted or holds more than weights"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"holds no checkpoint; expected one of model\.safe"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, harm: Callable[[Path], None], said: str) -> None:
    folder = shutil.copytree(THROUGH, tmp_path / "mine")
    harm(folder)
    with pytest.raises(ModelError, match=said) as caught:
        load("x", "cpu", torch.float32, folder)
    assert "\n" not in str(caught.value)
