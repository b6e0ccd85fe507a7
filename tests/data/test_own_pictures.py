"""A folder of pictures as a benchmark: which files, in which order, under which question, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from meteor_bench.core.errors import DataError
from meteor_bench.data import own_questions, suites
from meteor_bench.data.own_pictures import AGREEMENT, QUESTION
from tests.commands import Call


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures in and below a folder, and what is none."""
    monkeypatch.chdir(tmp_path)
    folder = Path("pictures")
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.PNG", "a.webp", "sub/c.jpg", ".hidden/d.png"):
        Image.new("RGB", (8, 6), (len(name), 0, 0)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def documents(name: str) -> list[dict[str, Any]]:
    (file,) = (suites.benchmark(name).folder / "data").glob("*.parquet")
    found: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return found


def test_pictures_are_sorted_and_asked_one_question(pictures: Path) -> None:
    row = suites.benchmark("pictures/")
    assert (row.task, row.n, row.metric) == ("own_pictures", 3, AGREEMENT)
    found = documents("pictures/")
    bytes_of = [(pictures / name).read_bytes() for name in ("a.webp", "b.PNG", "sub/c.jpg")]
    assert [one["images"][0]["bytes"] for one in found] == bytes_of
    assert {one["question"] for one in found} == {QUESTION}
    assert [one["family"] for one in found] == [None, None, "sub"]
    assert {one["question"] for one in documents("pictures/: What is it?")} == {"What is it?"}
    assert suites.benchmark("pictures/: What is it?").tasks != row.tasks


def test_another_picture_is_another_benchmark(pictures: Path) -> None:
    before = suites.benchmark("pictures/").tasks
    Image.new("RGB", (8, 6), "green").save(pictures / "b.PNG")
    assert suites.benchmark("pictures/").tasks != before


def test_what_is_wrong_is_one_line(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^empty holds no picture \(bmp, gif, "):
        suites.benchmark("empty/")
    with pytest.raises(DataError, match=r"^nowhere is no folder of pictures$"):
        suites.benchmark("nowhere/")
    with pytest.raises(DataError, match=r"^pictures/: the question is empty"):
        suites.benchmark("pictures/:  ")
    own_questions.check("pictures/")
    (pictures / "sub" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"^pictures/sub/bad.png is of no known format, or give --skip-broken$"):
        own_questions.check("pictures/")
    (tmp_path / "secret.png").write_bytes(b"")
    (pictures / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=r"^pictures/link.png: its link leads outside the folder$"):
        suites.benchmark("pictures/")


def test_a_question_is_asked_to_the_letter(pictures: Path) -> None:
    for question in ("is it red//green/", "a/./b", "red, green or blue?"):
        assert {one["question"] for one in documents(f"pictures/: {question}")} == {question}


def test_a_folder_may_be_called_anything(pictures: Path) -> None:
    pictures.rename("mine.jsonl")
    assert suites.benchmark("mine.jsonl/").n == 3
    Path("mine.jsonl/sub").rename(os.fsdecode(b"mine.jsonl/s\xff"))  # bytes that are no UTF-8
    assert [one["family"] for one in documents("mine.jsonl/")] == [None, None, r"s\udcff"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["--data", "pictures", "--tasks", "pocket_gqa"], "--data stands in place of --suite and --tasks"),
        (["--ask", "what"], "--ask is the question about a folder of pictures; give it with --data FOLDER"),
        (["--data", "pictures/notes.txt"], "--data takes a folder of pictures, or a file of JSON lines"),
        (["--data", "pictures", "--no-baseline"], "own_pictures has no answers but the unpruned model's; leave"),
        (["--data", "pictures", "--out", "runs"], "pictures/bad.png cannot be decoded (image file is truncated"),
    ],
)
def test_a_wrong_command_is_one_line(call: Call, pictures: Path, said: list[str], why: str) -> None:
    if "--out" in said:
        Image.effect_noise((64, 64), 50).save(pictures / "whole.png")
        whole = (pictures / "whole.png").read_bytes()
        (pictures / "bad.png").write_bytes(whole[: len(whole) // 2])
    done = call("run", "--method", "random", "--ratio", "0.5", *said)
    assert done.code == 2 and done.out == "" and not Path("runs").exists()
    assert done.err.splitlines()[-1].startswith(f"error: {why}")
