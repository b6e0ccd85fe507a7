"""The data script, with a generator of the test's own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from scripts import make_pocket_tasks as script
from scripts.pocket.sample import QA, Sample


def draw(kind: str, rng: np.random.Generator, split: str) -> Sample:
    """Noise with lopsided questions: nine of ten answers are "yes", one question comes twice."""
    clip = kind == "clip"
    image = rng.integers(0, 255, (4, 8, 8, 3) if clip else (16, 16, 3)).astype(np.uint8)
    qas = [QA("often", "pocket_pope", f"q{i}?", "no" if i == 9 else "yes") for i in range(10)]
    qas += [QA("rare", "pocket_pope", "r?", "no"), QA("often", "pocket_pope", "q1?", "yes")]
    qas += [QA("clip", "pocket_videomme", f"c{i}?", "left", "row1 row2", ("left", "up")) for i in range(3)]
    qas += [QA("other", "pocket_gqa", "x?", "y"), QA("helper", "", "h?", "h"), QA("text", "pocket_textvqa", "t?", "AN")]
    qas += [QA("text", "pocket_textvqa", "u?", "ANT")]
    return Sample("clip" if clip else kind, image, np.zeros((6, 4, 8, 8) if clip else (6, 2, 2)), qas)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for task in ("pocket_pope", "pocket_videomme", "pocket_textvqa"):
        (tmp_path / task).mkdir()
        text = f"task: {task}\ndataset_kwargs:\n  data_files:\n    test: data/old.parquet\nmetric_list: []\n"
        (tmp_path / task / f"{task}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_same_seeds_give_the_same_bytes(out: Path) -> None:
    first = script.make_benchmark("pocket_pope", out, draw, 50)
    data = first.read_bytes()
    assert script.make_benchmark("pocket_pope", out, draw, 50) == first
    assert first.read_bytes() == data
    longer = script.make_benchmark("pocket_pope", out, draw, 51)
    assert longer.name != first.name
    assert list(first.parent.iterdir()) == [longer]
    assert f"    test: data/{longer.name}\n" in (out / "pocket_pope" / "pocket_pope.yaml").read_text(encoding="utf-8")


def test_rare_answers_and_families_come_first(out: Path) -> None:
    table = parquet.read_table(script.make_benchmark("pocket_pope", out, draw, 40)).to_pylist()
    assert len(table) == 40
    assert len({(row["media_key"], row["question"]) for row in table}) == 40
    answers = Counter((row["family"], row["answer"]) for row in table)
    pictures = len({row["media_key"] for row in table})
    assert answers["often", "no"] == answers["rare", "no"] == pictures


def test_clips_lie_side_by_side_and_articles_are_left_out(out: Path) -> None:
    clips = parquet.read_table(script.make_benchmark("pocket_videomme", out, draw, 6)).to_pylist()
    assert {row["frames"] for row in clips} == {4}
    assert clips[0]["chain"] == "row1 row2"
    assert clips[0]["options"] == ["left", "up"]
    texts = parquet.read_table(script.make_benchmark("pocket_textvqa", out, draw, 3)).to_pylist()
    assert [row["answers"] for row in texts] == [["ANT"] * 10] * 3


def test_the_datasets_library_knows_the_pictures(out: Path) -> None:
    schema = parquet.read_schema(script.make_benchmark("pocket_pope", out, draw, 5))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["image"] == {"_type": "Image"}


def test_a_yaml_without_the_line_is_refused(out: Path) -> None:
    (out / "pocket_pope" / "pocket_pope.yaml").write_text("task: pocket_pope\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="expected one line"):
        script.make_benchmark("pocket_pope", out, draw, 5)


def test_shares_add_up() -> None:
    assert [script.share(64, i, 12) for i in range(12)] == [6] * 4 + [5] * 8
    assert sum(script.share(256, i, 12) for i in range(12)) == 256
