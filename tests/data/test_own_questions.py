"""A file of somebody's own questions: what is read, and what is refused with its line, before anything is loaded."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.shipped import check_data
from tests.commands import Call

Write = Callable[..., Path]
RIGHT: dict[str, Any] = {"image": "a.png", "question": "what colour", "answer": "red"}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes ``my.jsonl`` of rows (or lines as they are) beside two pictures and something that is none."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 6), "red").save("a.png")
    Image.new("RGB", (8, 6), "blue").save("b.png")
    Image.effect_noise((64, 64), 50).save("noise.png")
    whole = Path("noise.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("text.png").write_text("no picture")

    def write(*rows: dict[str, Any] | str, name: str = "my.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        Path(name).write_text("\n".join(lines) + "\n")
        return Path(name)

    return write


def documents(row: suites.Benchmark) -> list[dict[str, Any]]:
    (file,) = (row.folder / "data").glob("*.parquet")
    found: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return found


def test_a_file_is_a_benchmark_with_its_pictures_inside(write: Write) -> None:
    uri = "data:image/png;base64," + base64.b64encode(Path("b.png").read_bytes()).decode()
    pair = {"images": ["b.png", uri], "question": "same?", "answers": ["yes", "true"], "group": "pairs"}
    row = suites.benchmark(str(write(RIGHT, "", pair)))
    assert (row.task, row.n, row.metric, row.stock) == ("own_my", 2, "exact_match,none", False)
    assert suites.benchmark("own_my") == row and suites.resolve("pocket", ("my.jsonl",)) == (row,)
    assert len(check_data(row.folder / "data")) == 64
    one, two = documents(row)
    assert (one["question_id"], one["answers"], one["family"]) == (1, ["red"], None)
    assert (two["question_id"], two["answer"], two["family"]) == (3, "yes", "pairs")
    assert [image["bytes"] for image in two["images"]] == [Path("b.png").read_bytes()] * 2


def test_what_it_holds_decides_which_benchmark_it_is(write: Write) -> None:
    before = suites.benchmark(str(write(RIGHT))).tasks
    assert suites.benchmark(str(write({**RIGHT, "metric": "anls"}))).tasks != before
    assert suites.benchmark(str(write({**RIGHT, "metric": "exact"}))).tasks == before
    Image.new("RGB", (8, 6), "green").save("a.png")
    assert suites.benchmark(str(write(RIGHT, ""))).tasks != before


def test_a_choice_is_kept_by_its_words(write: Write) -> None:
    choices = {"choices": ["red", "blue"], "answer": "b"}
    row = suites.benchmark(str(write({**RIGHT, **choices}, {**RIGHT, "choices": ["red", "b"], "answer": "b"})))
    assert [one["answer"] for one in documents(row)] == ["blue", "b"]


def test_a_video_keeps_its_place_and_counts(write: Write) -> None:
    Path("clip.mp4").write_bytes(b"one")
    asked = {"video": "clip.mp4", "question": "what", "answer": "red"}
    row = suites.benchmark(str(write(asked)))
    assert documents(row)[0]["video"] == str(Path("clip.mp4").resolve())
    Path("clip.mp4").write_bytes(b"two")
    assert suites.benchmark(str(write(asked, ""))).tasks != row.tasks


def wrong(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**RIGHT, **changes}.items() if value != "-"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"image": ', "not JSON: "),
        ("[1]", "expected a table of keys and values"),
        (wrong(colour="red"), "unknown key 'colour'; known: image, images, video, question"),
        (wrong(metric="bleu"), "unknown metric 'bleu'; one of exact, vqa, anls, relaxed, choice, pope"),
        (wrong(metric="anls"), "metric anls in a file of metric exact; a file has one metric"),
        (wrong(answer="-"), "its answer is missing"),
        (wrong(answers=["red"]), "expected answer or answers, found both"),
        (wrong(answer=3), "answer: expected text, found 3"),
        (wrong(question=" "), 'question: expected text, found " "'),
        (wrong(image="-"), "expected one of image, images and video, found none"),
        (wrong(video="a.mp4"), "expected one of image, images and video, found image and video"),
        (wrong(image="nowhere.png"), "picture nowhere.png: No such file or directory"),
        (wrong(image="cut.png"), "picture cut.png cannot be decoded"),
        (wrong(image="text.png"), "picture text.png is of no known format"),
        (wrong(image="../a.png"), "../a.png lies outside the file's folder"),
        (wrong(image="out/a.png"), "out/a.png lies outside the file's folder"),
        (wrong(image="/etc/passwd"), "/etc/passwd: paths are relative to the file's folder"),
        (wrong(image="https://a/b.png"), "https://a/b.png: nothing is taken from the network"),
        (wrong(image="data:text/plain;base64,YQ=="), "expected data:image/...;base64,..."),
        (wrong(image="data:image/png;base64,???"), "its data: URI is not base64"),
        (wrong(choices=["red", "blue"]), "choices belong to metric choice, not to exact"),
    ],
)
def test_a_wrong_line_is_named(row: dict[str, Any] | str, said: str, write: Write, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    Image.new("RGB", (2, 2)).save(outside / "a.png")
    Path("out").symlink_to(outside)
    with pytest.raises(DataError) as error:
        suites.benchmark(str(write(RIGHT, "", row)))
    assert str(error.value).startswith(f"my.jsonl:3: {said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "vqa", "answers": ["red"] * 3, "answer": "-"}, "3 given, at least 4 needed"),
        ({"metric": "pope"}, "metric pope takes one answer, yes or no"),
        ({"metric": "choice"}, "metric choice needs 2 to 26 different choices"),
        ({"choices": ["red", "red"]}, "metric choice needs 2 to 26 different choices"),
        ({"choices": ["blue", "green"]}, "answer 'red' is none of the choices"),
    ],
)
def test_a_metric_says_what_it_needs(changes: dict[str, Any], said: str, write: Write) -> None:
    with pytest.raises(DataError, match="my.jsonl:1: .*" + said):
        suites.benchmark(str(write(wrong(**changes))))


def test_all_wrong_lines_are_found_at_once(write: Write) -> None:
    with pytest.raises(DataError, match=r"my.jsonl:2: .*\(also wrong: lines 3, 4, 5, 6, 7, ...\)$"):
        suites.benchmark(str(write(RIGHT, *[wrong(answer="-")] * 7)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data", "my.jsonl"], "my.jsonl:1: its answer is missing"),
        (["--data", "none.jsonl"], "none.jsonl: No such file or directory"),
        (["--data", "my.json"], "or a file of JSON lines whose name ends in .jsonl, not my.json"),
        (["--data", "my.jsonl", "--suite", "ci"], "--data stands in place of --suite and --tasks"),
        (["--tasks", "my.jsonl"], "my.jsonl:1: its answer is missing"),
    ],
)
def test_the_command_ends_before_a_model_is_loaded(given: list[str], said: str, write: Write, call: Call) -> None:
    write(wrong(answer="-"))
    for command in (["run", "--method", "fastv", "--ratio", "0.5"], ["sweep", "--methods", "fastv", "--ratios", "0.5"]):
        done = call(*command, *given)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: ") and said in done.err and done.err.count("\n") == 1


def test_two_files_of_one_name_are_refused(write: Write) -> None:
    Path("sub").mkdir()
    Image.new("RGB", (8, 6)).save("sub/a.png")
    write(RIGHT)
    write({**RIGHT, "question": "another"}, name="sub/my.jsonl")
    with pytest.raises(DataError, match="two files of questions are called own_my"):
        suites.resolve("pocket", ("my.jsonl", "sub/my.jsonl"))


def test_the_parquet_file_is_the_one_its_name_says(write: Write) -> None:
    row = suites.benchmark(str(write(RIGHT)))
    (file,) = (row.folder / "data").glob("*.parquet")
    assert file.stem == f"test-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
