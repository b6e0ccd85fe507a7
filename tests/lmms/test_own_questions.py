"""Somebody's own questions through lmms-eval: prompts, pictures, and what each metric makes of an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from meteor_bench.data.suites import benchmark
from meteor_bench.lmms.evaluate import TaskResult, evaluate
from tests.lmms.fakes import FakeSession, constant


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("red", "blue"):
        Image.new("RGB", (8, 6), name).save(f"{name}.png")


def asked(session: FakeSession, *rows: dict[str, Any]) -> TaskResult:
    Path("my.jsonl").write_text(
        "".join(json.dumps({"image": "red.png", "question": "what", **row}) + "\n" for row in rows)
    )
    task = benchmark("my.jsonl").task
    (result,) = evaluate(session, [task], journal=Path("answers.jsonl"), batch_size=4)  # type: ignore[arg-type]
    return result


FOUR = {"answers": ["red", "red", "red", "blue"]}
CHOICES = {"choices": ["red", "dark blue", "green"], "answer": "dark blue"}


@pytest.mark.parametrize(
    ("metric", "row", "said", "score"),
    [
        ("exact", {"answers": ["Red", "scarlet"]}, "red.", 1.0),
        ("exact", {"answers": ["Red", "scarlet"]}, "Scarlet", 1.0),
        ("exact", {"answer": "red"}, "dark red", 0.0),
        ("anls", {"answer": "abcd"}, "abcx", 0.75),  # one of four characters
        ("anls", {"answer": "abcd"}, "xbxx", 0.0),  # below a half
        ("relaxed", {"answer": "100"}, "104", 1.0),
        ("relaxed", {"answer": "100"}, "106", 0.0),
        ("relaxed", {"answers": ["100", "red"]}, "Red", 1.0),
        # Leaving each person's answer out in turn: three times two others said red (2/3), once three did (1).
        ("vqa", FOUR, "red", 0.75),
        ("vqa", FOUR, "blue", 0.25),  # a third, three times of four
        ("choice", CHOICES, "Dark blue.", 1.0),
        ("choice", CHOICES, "B", 1.0),
        ("choice", CHOICES, "The answer is (C).", 0.0),
        ("pope", {"answer": "Yes"}, "yes", 1.0),
        ("pope", {"answer": "yes"}, "yes.", 0.0),
    ],
)
def test_a_metric_scores_as_lmms_eval_does(metric: str, row: dict[str, Any], said: str, score: float) -> None:
    result = asked(constant(said), {"metric": metric, **row})
    assert result.samples[0]["score"] == pytest.approx(score)
    assert result.headline == pytest.approx(100 * score)


def test_groups_and_intervals_have_what_they_need() -> None:
    rows = [
        {"answer": "red", "group": "colour"},
        {"answer": "blue", "group": "colour", "question": "and here", "image": "blue.png"},
        {"answer": "six", "group": "size", "question": "how high"},
    ]
    result = asked(constant("red"), *rows)
    assert result.families == {"colour": 50.0, "size": 0.0} and result.n == 3
    one, two, three = (sample["media_key"] for sample in result.samples)
    assert one == three != two  # clustered by picture


def test_several_pictures_are_shown_in_their_order() -> None:
    session = constant("yes")
    result = asked(session, {"image": None, "images": ["blue.png", "red.png"], "answer": "yes"})
    (shown,) = session.pictures.values()
    assert [picture.getpixel((0, 0)) for picture in shown] == [(0, 0, 255), (255, 0, 0)]
    assert type(shown) is list, "pictures of their own, no frames of a clip"
    assert result.headline == 100


def test_the_question_is_the_prompt_and_options_follow_it() -> None:
    prompts: list[str] = []
    session = FakeSession(lambda request: prompts.append(request.question) or "red")  # type: ignore[func-returns-value]
    asked(session, {"answer": "red"})
    asked(session, CHOICES)
    told = "Answer with the option's letter from the given choices directly."
    assert prompts == ["what", f"what\nA. red\nB. dark blue\nC. green\n{told}"]
