"""The committed benchmark data: sizes, schema, and that no guess without looking scores well."""

from __future__ import annotations

import io
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import yaml
from PIL import Image

from meteor_bench.data import suites
from meteor_bench.data.shipped import check_data, tasks_dir
from scripts import make_pocket_tasks as script
from scripts import make_pocket_video as video

TASKS = (*suites.suite_tasks("pocket"), *suites.suite_tasks("pocket-video"))


class Loader(yaml.SafeLoader):
    """Leaves lmms-eval's functions alone."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def folder(task: str) -> Path:
    return tasks_dir() / task


def rows(task: str) -> list[dict[str, Any]]:
    (file,) = (folder(task) / "data").glob("*.parquet")
    found: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return found


def test_the_data_stay_small() -> None:
    """What ships; `make natural` may have made more."""
    sizes = [file.stat().st_size for file in tasks_dir().rglob("*.parquet") if "natural_" not in str(file)]
    assert sum(sizes) < 12e6
    assert max(sizes) < 4e6


@pytest.mark.parametrize("task", TASKS)
def test_the_yaml_names_the_file_that_is_there(task: str) -> None:
    config = yaml.load((folder(task) / f"{task}.yaml").read_text(encoding="utf-8"), Loader)
    assert config["task"] == task
    named = folder(task) / config["dataset_kwargs"]["data_files"]["test"]
    assert [named] == list((folder(task) / "data").iterdir())
    check_data(folder(task) / "data")


@pytest.mark.parametrize("task", TASKS)
def test_a_benchmark_has_as_many_documents_as_the_table_says(task: str) -> None:
    docs = rows(task)
    assert len(docs) == suites.benchmark(task).n
    assert [doc["index"] for doc in docs] == list(range(len(docs)))
    assert {doc["benchmark"] for doc in docs} == {task}
    assert len({(doc["media_key"], doc["question"]) for doc in docs}) == len(docs)
    assert all(doc["options"] == [] or doc["answer"] in doc["options"] for doc in docs)


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_is_stored_once_however_many_questions_it_has(task: str) -> None:
    docs = rows(task)
    distinct = {doc["media_key"]: len(doc["image"]["bytes"]) for doc in docs}
    (file,) = (folder(task) / "data").glob("*.parquet")
    assert len(distinct) < len(docs)
    assert file.stat().st_size < sum(distinct.values()) + 60_000


@pytest.mark.parametrize("task", TASKS)
def test_intervals_rest_on_enough_pictures(task: str) -> None:
    """Questions on one picture go right or wrong together, so few pictures make an interval too narrow."""
    assert len({doc["media_key"] for doc in rows(task)}) >= 48


@pytest.mark.parametrize("task", TASKS)
def test_no_constant_answer_to_each_kind_of_question_scores_well(task: str) -> None:
    answers: dict[str, Counter[str]] = {}
    for doc in rows(task):
        answers.setdefault(doc["family"], Counter())[doc["answer"]] += 1
    best = sum(max(counter.values()) for counter in answers.values())
    assert best <= 0.55 * suites.benchmark(task).n


def pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


@pytest.mark.parametrize("task", TASKS)
def test_the_script_still_makes_the_committed_data(task: str) -> None:
    """The first pictures, by content: bytes depend on the versions of Pillow and pyarrow."""
    kept: dict[str, list[dict[str, Any]]] = {}
    for doc in rows(task):
        kept.setdefault(doc["media_key"], []).append(doc)
    drawn = video.clips(task) if task in video.FRAMES else script.benchmark_pictures(task)
    for picture, docs in zip(islice(drawn, 4), kept.values(), strict=False):
        assert pixels(picture.png) == pixels(docs[0]["image"]["bytes"])
        made = [(qa.question, qa.answer, qa.chain, qa.family) for qa in picture.questions]
        assert made == [(doc["question"], doc["answer"], doc["chain"], doc["family"]) for doc in docs]
