"""Ids of tokenizer.model against ids written down: those of sentencepiece itself on each stretch between marks.

``pieces/llama.model`` is a BPE model with bytes and "▁" before a text, as Llama's; ``pieces/yi.model`` has none before
it, as Yi's. How the ids came about: `sentencepiece.SentencePieceProcessor.encode` of each part of
``re.split(marks, text)``, the marks by their own ids. transformers' conversion gives others for most rows.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.core.errors import ModelError
from meteor_bench.models.eagle.processor import (
    EagleProcessor,
    template_for,
)
from meteor_bench.models.hub_processor import HubText
from meteor_bench.models.piece_tokenizer import PieceTokenizer, piece_tokenizer
from tests import eagle

PIECES = Path(__file__).parent / "pieces"
LLAMA: list[tuple[str, list[int]]] = [
    ("what is it", [300, 285, 296, 297]),
    ("what  is  it", [300, 285, 363, 296, 363, 297]),
    ("<image>\nwhat is it", [363, 392, 326, 347, 393, 13, 290, 285, 296, 297]),
    (" leading space", [276, 267, 368, 375, 354, 363, 336, 311, 364]),
    ("is there a red thing?  yes", [296, 266, 272, 259, 363, 359, 299, 354, 66, 276, 386, 262]),
    (
        "count: 12 blue ones\n\nA. left\nB. right",
        [
            275,
            334,
            265,
            388,
            363,
            52,
            53,
            291,
            357,
            292,
            358,
            13,
            13,
            379,
            383,
            363,
            267,
            322,
            13,
            69,
            383,
            343,
            288,
            325,
        ],
    ),
    ("</s>please", [2, 293, 267, 348]),
    ("naïve 日本", [363, 369, 368, 198, 178, 399, 364, 363, 233, 154, 168, 233, 159, 175]),
    (
        "the user's  questions </s> USER: why",
        [266, 282, 391, 365, 276, 289, 294, 301, 363, 2, 276, 310, 307, 388, 300, 386],
    ),
]
# Of the words in "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n{}<|im_end|><|im_start|>assi..."
YI_BEFORE = [3, 339, 271, 322, 15, 379, 305, 268, 307, 383, 4, 3, 272, 266, 15]
YI_AFTER = [4, 3, 368, 282, 278, 15]
YI: list[tuple[str, list[int]]] = [
    ("what is it", [291, 286, 298, 299]),
    ("what  is  it", [291, 286, 363, 298, 363, 299]),
    ("<image>\nwhat is it", [392, 328, 349, 393, 15, 291, 286, 298, 299]),
    (" leading space", [363, 269, 368, 375, 356, 363, 338, 313, 364]),
    ("is there a red thing?  yes", [367, 365, 268, 274, 261, 363, 361, 301, 356, 68, 277, 386, 264]),
    (
        "count: 12 blue ones\n\nA. left\nB. right",
        [
            376,
            336,
            267,
            388,
            363,
            54,
            55,
            293,
            359,
            294,
            360,
            15,
            15,
            379,
            383,
            363,
            269,
            324,
            15,
            71,
            383,
            345,
            289,
            327,
        ],
    ),
    ("<|endoftext|>please", [2, 382, 269, 350]),
    ("naïve 日本", [369, 368, 200, 180, 399, 364, 363, 235, 156, 170, 235, 161, 177]),
    (
        "the user's  questions <|endoftext|> USER: why",
        [366, 263, 283, 391, 365, 277, 290, 296, 303, 363, 2, 363, 312, 309, 388, 302, 386],
    ),
]


def llama(folder: Path, **more: Any) -> Path:
    """A folder as Vicuna's."""
    shutil.copy(PIECES / "llama.model", folder / "tokenizer.model")
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    about = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": True, **marks, **more}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def yi(folder: Path) -> Path:
    """A folder as Yi's."""
    shutil.copy(PIECES / "yi.model", folder / "tokenizer.model")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "unk_token": "<unk>"}
    listed = {i: {"content": text, "special": True} for i, text in ((2, "<|endoftext|>"), (3, "<|im_start|>"))}
    about = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "legacy": True, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "added_tokens_decoder": listed}))
    return folder


def read(folder: Path) -> PieceTokenizer:
    found = piece_tokenizer(folder)
    assert found is not None
    return found


@pytest.mark.parametrize(("text", "ids"), LLAMA)
def test_prompts_of_a_model_like_llamas(tmp_path: Path, text: str, ids: list[int]) -> None:
    tokenizer = read(llama(tmp_path))
    assert tokenizer(text).input_ids == [1, *ids]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    said = tokenizer.decode(ids, skip_special_tokens=True)
    assert said.split() == text.replace("</s>", "").split()


@pytest.mark.parametrize(("text", "ids"), YI)
def test_prompts_of_a_model_like_yis(tmp_path: Path, text: str, ids: list[int]) -> None:
    tokenizer = read(yi(tmp_path))
    processor = EagleProcessor(
        tokenizer, template_for(tokenizer.get_vocab()), eos=frozenset(), size=8, tokens=1, most=None
    )
    template = processor.template
    asked = template.before + text + template.after
    assert tokenizer(asked).input_ids == [*YI_BEFORE, *ids, *YI_AFTER]
    assert 4 in processor.eos
    assert tokenizer.decode(ids, skip_special_tokens=True) == text.replace("<|endoftext|>", "")


def test_without_legacy_a_mark_is_followed_by_no_space(tmp_path: Path) -> None:
    tokenizer = read(llama(tmp_path, legacy=False))
    for text, ids in LLAMA[:6]:  # no marks in them: the one "▁" before the text is the same
        assert tokenizer(text).input_ids == [1, *ids]
    after = tokenizer("</s>please").input_ids
    assert after[:2] == [1, 2] and tokenizer.decode([after[2]])[0] == "p"
    assert after[2:] != LLAMA[6][1][1:]
    # Words behind a mark in the middle of a text: a space of their own stays the only one.
    words = tokenizer("why</s> USER: why", add_special_tokens=False).input_ids
    assert words == [300, 386, 2, *tokenizer("USER: why", add_special_tokens=False).input_ids]


def test_a_mark_of_its_own_id_is_not_cut(tmp_path: Path) -> None:
    tokenizer = read(llama(tmp_path, added_tokens_decoder={"400": {"content": "<image>", "special": True}}))
    assert tokenizer("what<image>what", add_special_tokens=False).input_ids == [300, 285, 400, 300, 285]
    assert tokenizer.get_vocab()["<image>"] == 400
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<image>": 400}))
    assert read(tmp_path)("<image>what").input_ids == [1, 400, 300, 285]


def test_a_prompt_of_llava_keeps_its_placeholder(tmp_path: Path) -> None:
    class Library:
        chat_template = None
        tokenizer = None

    tokenizer = read(llama(tmp_path, added_tokens_decoder={"400": {"content": "<image>", "special": True}}))
    text = HubText(Library(), "{images}{question}", "<image>", tokenizer=tokenizer)
    assert text.ask("what is it", 1, False) == [1, 400, *tokenizer("\nwhat is it", add_special_tokens=False).input_ids]
    assert text.decode([300, 285, 2]) == "what"


def test_eagle_reads_tokenizer_model_itself() -> None:
    assert isinstance(eagle.build().processor.tokenizer, PieceTokenizer)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.model", "no", "tokenizer.model holds no tokenizer"),
        ("tokenizer.model", "", "tokenizer.model holds no tokenizer"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json is not a JSON object"),
        ("tokenizer_config.json", "{", "cannot read"),
        ("tokenizer_config.json", "[" * 100_000, "cannot read"),
        ("tokenizer_config.json", '{"legacy": "yes"}', "has legacy='yes'; expected true or false"),
        ("tokenizer_config.json", '{"eos_token": 3}', "has eos_token=3; expected text"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": "<image>"}}', "the id x; expected a whole number"),
        ("added_tokens.json", '{"<image>": -1}', "the id -1; expected a whole number"),
    ],
)
def test_what_is_wrong_with_its_files(tmp_path: Path, name: str, content: str, said: str) -> None:
    (llama(tmp_path) / name).write_text(content)
    with pytest.raises(ModelError) as caught:
        piece_tokenizer(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
