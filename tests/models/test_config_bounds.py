"""Wrong values in a checkpoint's own files: one line that names file and key, whatever the family, key and value."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meteor_bench.core.errors import (
    MeteorBenchError,
    ModelError,
)
from meteor_bench.engine.factory import build
from meteor_bench.engine.load_model import (
    load_model,
    resolve_model,
)
from meteor_bench.methods.none import NoPruning
from meteor_bench.models.locate import read_config
from meteor_bench.models.pocket import model as pocket
from tests import eagle, hub_pieces, hubs

FAMILIES = (*hubs.FAMILIES, "eagle", "pocket")
BAD: tuple[Any, ...] = (
    "wide", "", None, True, -3, 0, 0.5, 1e300, float("nan"), float("inf"), [], [1], [[]], {}, {"a": 1}, 10**30, 100_000,
    [-2, -1], "1" * 400, "８",
)  # fmt: skip
COUNTS = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size", "patch_size")


@cache
def checkpoint(family: str) -> Path:
    if family == "eagle":
        return eagle.folder()
    return pocket.WEIGHTS / "pocket" if family == "pocket" else hubs.folder(family)


def described(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def paths(config: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Of every value, also of those in objects."""
    for key, value in config.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


def changed(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**config, first: changed(config[first], tuple(rest), value) if rest else value}


def said_of(family: str, config: Any) -> str | None:
    """What is said of a folder with this config.json; None where it describes a model. Any other error goes on."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        try:
            card = resolve_model(folder, NoPruning())
            assert card.random is not None
            if family == "pocket":
                load_model(card, "cpu", "float32", None)
            else:
                hub_pieces.quiet(card.random, "meta", torch.float32)
        except MeteorBenchError as error:
            return str(error)
    return None


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_under_any_key_is_one_line_or_a_model(family: str, data: st.DataObject) -> None:
    config = described(checkpoint(family))
    path = data.draw(st.sampled_from(sorted(paths(config))))
    said = said_of(family, changed(config, path, data.draw(st.sampled_from(BAD))))
    assert said is None or ("\n" not in said and len(said) < 1000)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_number_that_is_none_names_file_and_key(family: str) -> None:
    config = described(checkpoint(family))
    found = [path for path in sorted(paths(config)) if path[-1] in COUNTS]
    assert found
    for at, path in enumerate(found):
        for value in ("wide", None, -3, 0, 0.5, [1], 10**30)[at % 2 :: 2]:
            said = said_of(family, changed(config, path, value))
            assert said is not None and f"config.json has {'.'.join(path)}={value!r}; expected a positive whole" in said


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 200_000, '{"a":' * 100_000, "\ud800"])
def test_a_file_that_is_no_object_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match=r"config\.json") as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pipe_in_its_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ModelError, match=r"it is no regular file"):
        read_config(tmp_path)


def test_a_checkpoint_chooses_no_code(tmp_path: Path) -> None:
    config = described(hubs.folder("llava"))
    wanted = read_config(hubs.folder("llava"))
    name = "kernels-community/flash-attn"
    for level in (config, config["text_config"], config["vision_config"]):
        level |= {"attn_implementation": name, "_attn_implementation": name, "experts_implementation": name}
        level |= {"auto_map": {"AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path) == wanted


@pytest.mark.parametrize("layer", [-99, 99, 7, -8, True, [1], "last", None])
def test_a_layer_that_the_tower_lacks_is_refused(layer: Any) -> None:
    said = said_of("llava", {**described(hubs.folder("llava")), "vision_feature_layer": layer})
    assert said is not None and ("vision_feature_layer" in said or "joins features of layers" in said)


def test_a_patch_token_that_eagle_never_had_is_refused() -> None:
    said = said_of("eagle", {**described(eagle.folder()), "mm_use_im_patch_token": True})
    assert said is not None and "mm_use_im_patch_token=True; this adapter knows False only" in said


FILES: list[tuple[str, str, str | None, str]] = [
    ("llava", "generation_config.json", "[1, 2]", "generation_config.json is not a JSON object"),
    ("llava", "generation_config.json", '"text"', "generation_config.json is not a JSON object"),
    ("llava", "generation_config.json", '{"eos_token_id": "two"}', "has eos_token_id=two; expected a whole number or"),
    ("llava", "generation_config.json", '{"eos_token_id": [[2]]}', "expected a whole number or a list of them"),
    ("eagle", "generation_config.json", "[]", "generation_config.json is not a JSON object"),
    ("llava", "tokenizer.json", "", "holds no LlavaProcessor"),
    ("llava", "tokenizer.json", "{", "holds no LlavaProcessor"),
    ("llava", "tokenizer.json", "{}", "holds no LlavaProcessor"),
    ("llava", "tokenizer.json", "[3]", "holds no LlavaProcessor"),
    ("llava", "tokenizer.json", None, "holds no LlavaProcessor"),
    ("llava", "tokenizer_config.json", "[]", "holds no LlavaProcessor"),
    ("llava", "chat_template.jinja", "{% for %}", "chat template (chat_template) fails"),
    ("llava", "chat_template.jinja", "{{ nothing.there.at.all }}", "chat template (chat_template) fails"),
    ("llava", "chat_template.jinja", "{{ 1 // 0 }}", "chat template (chat_template) fails"),
    ("llava", "chat_template.jinja", "no place", "has no place for an image"),
    ("pocket", "tokenizer.json", "", "tokenizer.json is no tokenizer"),
    ("pocket", "tokenizer.json", "{}", "tokenizer.json is no tokenizer"),
    ("pocket", "tokenizer.json", None, "tokenizer.json is no tokenizer"),
]


@pytest.mark.parametrize(("family", "name", "content", "said"), FILES)
def test_what_is_wrong_with_the_other_files(
    tmp_path: Path, family: str, name: str, content: str | None, said: str
) -> None:
    folder = shutil.copytree(checkpoint(family), tmp_path / "checkpoint")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ModelError) as caught:
        hub_pieces.quiet(build, str(folder), "none")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_template_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meteor_bench.models.hf.PATIENCE_S", 0.1)
    folder = shutil.copytree(checkpoint("llava"), tmp_path / "checkpoint")
    loops = "{% for i in range(9999) %}{% for j in range(500) %}{% endfor %}{% endfor %}"  # here, of some seconds
    (folder / "chat_template.jinja").write_text(loops + "<image>")
    with pytest.raises(ModelError, match=r"chat template .* takes more than 0.1 s"):
        hub_pieces.quiet(build, str(folder), "none")


def test_a_tokenizer_without_the_placeholder_is_one_line(tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("llava"), tmp_path / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((folder / name).read_text().replace("<image>", "<other>"))
    with pytest.raises(ModelError) as caught:
        hub_pieces.quiet(build, str(folder), "none")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("special_tokens_map.json",), ("special_tokens_map.json", "tokenizer_config.json")])
def test_a_tokenizer_without_named_marks_is_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = shutil.copytree(checkpoint("eagle"), tmp_path / "checkpoint")
    for name in names:
        (folder / name).unlink()
    processor = resolve_model(str(folder), NoPruning()).build("cpu", torch.float32, folder).processor
    assert processor.prompt("what is it").before[0] == 1


def test_a_pocket_tokenizer_without_its_marks_is_one_line(tmp_path: Path) -> None:
    folder = shutil.copytree(pocket.WEIGHTS / "pocket", tmp_path / "checkpoint")
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace("<eos>", "<end>"))
    with pytest.raises(ModelError, match="has no token '<eos>'"):
        build(str(folder), "none")


@pytest.mark.parametrize("side", [[336, 336], "336", None, 0, {}])
def test_a_side_that_comes_after_the_patch_is_checked_as_itself(tmp_path: Path, side: Any) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llava", "vision_config": {"patch_size": 14, "image_size": side}})
    )
    with pytest.raises(ModelError, match=r"has vision_config\.image_size="):
        read_config(tmp_path)


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_what_a_config_may_hold_besides_does_no_harm(tmp_path: Path, start: str) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(checkpoint("pocket"), folder)
    content = {**described(folder), "auto_map": {"AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(start + json.dumps(content), encoding="utf-8")
    assert load_model(resolve_model(str(folder), NoPruning()), "cpu", "float32", None).name
