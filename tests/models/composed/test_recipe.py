"""A composition's file: what it may say, and one line for whatever is wrong in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from meteor_bench.config.run_config import check
from meteor_bench.core.errors import ConfigError
from meteor_bench.models.composed.recipe import is_recipe, read
from meteor_bench.models.composed.shipped import FOLDER
from tests.composed import FILE

SHIPPED = sorted(FOLDER.glob("*.yaml"))


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def changed(folder: Path, *place: str, value: object) -> Path:
    """The tests' file with another value at a place; None takes the key away."""
    said = yaml.safe_load(FILE)
    inner = said
    for step in place[:-1]:
        inner = inner[step]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return written(folder, yaml.safe_dump(said, sort_keys=False))


def test_a_file_becomes_parts_with_published_sizes_where_it_says_none(tmp_path: Path) -> None:
    text = (
        "towers: {a: {type: clip}, b: {same_as: a}}\nfusion: {kind: sequence}\ndecoder: {type: llama, vocab_size: 99}"
    )
    recipe = read(written(tmp_path, text))
    assert (recipe.name, recipe.image, recipe.tokens, recipe.reference) == ("mine", 336, 2 * 576, 2 * 576)
    assert recipe.same == {"b": "a"} and recipe.towers["b"] is recipe.towers["a"]
    assert (recipe.decoder.hidden_size, recipe.decoder.num_hidden_layers) == (4096, 32)


WRONG: dict[str, tuple[tuple[str, ...], object, str, str]] = {
    "unknown tower": (("towers", "clip", "type"), "clop", "towers.clip.type", "did you mean 'clip'"),
    "tower without a type": (("towers", "clip", "type"), None, "towers.clip.type", "pix2struct"),
    "unknown key": (("towers", "clip", "hiden_size"), 8, "towers.clip.hiden_size", "did you mean 'hidden_size'"),
    "unknown key at the top": (("tower",), {}, "tower", "did you mean 'towers'"),
    "no towers": (("towers",), {}, "towers", "at least one"),
    "a name that is none": (("towers", "My Clip"), {"type": "clip"}, "towers.My Clip", "small letters"),
    "text for a number": (("towers", "clip", "image_size"), "big", "towers.clip.image_size", "a whole number"),
    "too large a number": (("towers", "clip", "hidden_size"), 10**9, "towers.clip.hidden_size", "65536"),
    "heads that do not divide": (
        ("towers", "clip", "num_attention_heads"),
        5,
        "towers.clip.num_attention_heads",
        "divides",
    ),
    "rotations of odd heads": (
        ("towers", "dino", "num_attention_heads"),
        16,
        "towers.dino.num_attention_heads",
        "multiple of 4",
    ),
    "a layer that is not there": (("towers", "clip", "layer"), 9, "towers.clip.layer", "1 to 4"),
    "class token and layer": (("towers", "clip", "class_token"), False, "towers.clip.layer", "expected -1"),
    "a twin of nothing": (("towers", "twin"), {"same_as": "clap"}, "towers.twin.same_as", "clip, dino, conv"),
    "a twin of other size": (
        ("towers", "twin"),
        {"same_as": "clip", "image_size": 8},
        "towers.twin.image_size",
        "nothing beside",
    ),
    "grid of a sequence": (("fusion", "grid"), 4, "fusion.grid", "kind: channels"),
    "no grid": (("fusion", "kind"), "channels", "fusion.grid", "side of the common grid"),
    "a grid beyond all": (("fusion",), {"kind": "channels", "grid": 9}, "fusion.grid", "from 2 to 6"),
    "a map that does not fold": (
        ("fusion",),
        {"kind": "channels", "grid": 4, "fold": ["dino"]},
        "fusion.fold[0]",
        "8x8",
    ),
    "folding what is not there": (
        ("fusion",),
        {"kind": "channels", "grid": 4, "fold": ["sam"]},
        "fusion.fold[0]",
        "unknown tower",
    ),
    "no such fusion": (("fusion", "kind"), "sum", "fusion.kind", "sequence, channels"),
    "a decoder that reads no text": (
        ("decoder", "type"),
        "clip",
        "decoder.type",
        "known: llama, mistral, qwen2, qwen3",
    ),
    "a decoder without words": (("decoder", "vocab_size"), None, "decoder.vocab_size", "without text"),
    "no decoder": (("decoder",), None, "decoder", "missing"),
    "keys that do not divide": (
        ("decoder", "num_key_value_heads"),
        3,
        "decoder.num_key_value_heads",
        "divisor of num_attention_heads",
    ),
    "not a template": (("template",), "alpaca", "template", "vicuna_v1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_with_file_key_and_what_would_be_right(case: str, tmp_path: Path) -> None:
    place, value, key, right = WRONG[case]
    file = changed(tmp_path, *place, value=value)
    with pytest.raises(ConfigError) as caught:
        check("model", str(file))
    said = str(caught.value)
    assert "\n" not in said and f"{file}:" in said and f" {key}: " in said and right in said, said


@pytest.mark.parametrize(
    "text", ["", "- a", "a: [", "towers: {a: {type: clip}}\ntowers: {}", "x: !!python/name:os.system"]
)
def test_what_is_no_composition_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(written(tmp_path, text))
    assert "\n" not in str(caught.value) and "mine.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "meteor_bench", "latency", "--model", str(tmp_path / "none.yaml")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2 and len(found.stderr.splitlines()) == 1 and "none.yaml" in found.stderr


def test_only_a_files_name_means_a_file() -> None:
    assert is_recipe("mine.yaml") and is_recipe("a/b.yml") and not is_recipe("pocket") and not is_recipe("owner/name")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_what_is_shipped_is_read(file: Path) -> None:
    recipe = read(file)
    assert recipe.note and recipe.licence and recipe.weights is None


def test_reading_a_file_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from meteor_bench.models.composed.recipe import read\n"
        f"read(Path({str(SHIPPED[0])!r})); print([m for m in ('torch', 'transformers', 'timm') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
