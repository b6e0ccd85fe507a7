"""Keys of pictures that stay encoded, and tasks for which they do not."""

from __future__ import annotations

import copy
import io
import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, ImageFile

from meteor_bench.data.suites import benchmark
from meteor_bench.lmms import tasks as known
from meteor_bench.lmms.encoded import Encoded
from meteor_bench.lmms.inputs import Inputs
from meteor_bench.lmms.media import Documents
from meteor_bench.lmms.plugin import MeteorBench
from scripts.make_lookalikes import Lookalike, make
from tests.lmms.fakes import constant
from tests.lmms.lookalikes import STOCK, count_as, counts

PICTURED = [task for task in STOCK if not task.startswith(("videomme", "longvideobench", "mvbench"))]
FAST = ("pope", "mmmu_val", "seedbench", "ai2d")
EACH = [pytest.param(task, marks=[] if task in FAST else pytest.mark.slow) for task in PICTURED]


def stored(colour: str, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(stream, kind)
    return stream.getvalue()


RED, BLUE = stored("red"), stored("blue")


def rows(images: list[Any], feature: Any = None, **columns: list[Any]) -> datasets.Dataset:
    kinds = {"image": feature or datasets.Image()}
    data = datasets.Dataset.from_dict({"image": images}, features=datasets.Features(kinds))
    for name, values in columns.items():
        data = data.add_column(name, values)
    return data


def keys(dataset: Any, to_visual: Callable[[Any], Any]) -> list[str | None]:
    encoded = Encoded(dataset)
    return [encoded.key(i, to_visual) for i in range(len(dataset))]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with every picture that is decoded."""
    found: list[str] = []
    load = ImageFile.ImageFile.load

    def counted(self: ImageFile.ImageFile) -> Any:
        found.append(type(self).__name__)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def made(root: Path) -> Mapping[str, Lookalike]:
    return make(root, PICTURED)


@pytest.mark.parametrize("task", EACH)
def test_requests_of_stock_tasks_decode_nothing_and_group_as_the_pixels_do(
    made: Mapping[str, Lookalike], root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    count_as(monkeypatch, counts(made))
    row, inputs = benchmark(task), Inputs(root)
    model: Any = MeteorBench(constant(""), inputs=inputs)  # type: ignore[arg-type]
    with known.opened(row, known.index([row]), inputs) as object_:
        decoded.clear()  # lmms-eval opens the first picture, and GQA's all, when it makes the task
        object_.build_all_requests()
        model.task_dict[task] = object_.dataset
        requests = list(model.requests(object_.instances))
        for instance in object_.instances:
            instance.resps = ["A"]
        object_.apply_filters()  # AI2D's goes through the documents
        assert decoded == [] and len(requests) == len(made[task].right)
        pixels = [b"".join(picture.tobytes() for picture in request.media()) for request in requests]
        assert decoded
    for (one, shown), (other, seen) in itertools.combinations(zip(requests, pixels, strict=True), 2):
        assert (one.media_key == other.media_key) == (shown == seen)


def test_the_key_is_of_bytes_order_and_modes() -> None:
    same = keys(rows([RED, BLUE, RED]), lambda doc: [doc["image"].convert("RGB")])
    assert same[0] == same[2] != same[1] and None not in same
    as_they_are = keys(rows([RED]), lambda doc: [doc["image"]])
    grey = keys(rows([RED]), lambda doc: [doc["image"].convert("L").convert("RGB")])
    stated = keys(rows([RED], datasets.Image(mode="L")), lambda doc: [doc["image"].convert("RGB")])
    assert len({same[0], as_they_are[0], grey[0], stated[0]}) == 4
    lists = rows([[RED, BLUE], [BLUE, RED], [RED, BLUE]], datasets.List(datasets.Image()))
    several = keys(lists, lambda doc: [image.convert("RGB") for image in doc["image"]])
    assert several[0] == several[2] != several[1] and None not in several
    turned = keys(lists, lambda doc: [image.convert("RGB") for image in reversed(doc["image"])])
    assert turned[0] == several[1]


def test_the_document_is_otherwise_what_the_task_knows() -> None:
    kinds = {"image": datasets.Image(), "nested": {"image": datasets.Image(), "n": datasets.Value("int32")}}
    kinds |= {"label": datasets.ClassLabel(names=["a", "b"]), "none": datasets.Image()}
    data = datasets.Dataset.from_list(
        [{"image": RED, "nested": {"image": BLUE, "n": 3}, "label": 1, "none": None}], features=datasets.Features(kinds)
    )
    docs: list[Any] = []

    def to_visual(doc: Any) -> Any:
        docs.append(doc)
        return [doc["image"], doc["nested"]["image"]]

    assert None not in keys(data, to_visual)
    (doc,) = docs
    assert (list(doc), doc["nested"]["n"], doc["label"], doc["none"]) == (list(data[0]), 3, 1, None)


def swallowed(doc: Any) -> Any:
    try:
        doc["image"].crop((0, 0, 1, 1))
    except AttributeError:
        pass
    return [doc["image"]]


ELSEWISE: dict[str, Callable[[Any], Any]] = {
    "crops": lambda doc: [doc["image"].crop((0, 0, doc["n"] + 1, 2))],
    "looks at the size": lambda doc: [doc["image"]] * (doc["image"].size[0] > 3),
    "asks for the type": lambda doc: [doc["image"]] if isinstance(doc["image"], Image.Image) else ["video.mp4"],
    "asks for an attribute": lambda doc: [doc["image"]] if hasattr(doc["image"], "width") else [],
    "goes on after an error": swallowed,
    "compares": lambda doc: [doc["image"]] if doc["image"] != doc["n"] else [],
    "copies": lambda doc: [copy.deepcopy(doc)["image"]],
    "reads pixels": lambda doc: [Image.fromarray(np.asarray(doc["image"]))],
    "pastes": lambda doc: [Image.new("RGB", (9, 9)).paste(doc["image"]) or doc["image"]],
    "converts by a matrix": lambda doc: [doc["image"].convert("L", (1, 0, 0, 0))],
    "draws": lambda doc: [Image.new("RGB", (3 + doc["n"], 3))],
    "adds one": lambda doc: [doc["image"], Image.new("RGB", (3, 3))],
    "shows a lone picture": lambda doc: doc["image"],
    "shows none": lambda doc: [],
    "fails": lambda doc: doc["nothing"],
}


@pytest.mark.parametrize("does", ELSEWISE)
def test_a_task_that_does_anything_else_gets_no_key(does: str) -> None:
    assert keys(rows([RED, RED], n=[0, 1]), ELSEWISE[does]) == [None, None]


def test_crops_by_question_are_told_apart_by_their_pixels(decoded: list[str]) -> None:
    documents = Documents("t", rows([RED, RED, RED], n=[0, 1, 0]), 4)
    found = [documents.media(i, ELSEWISE["crops"]) for i in range(3)]
    assert found[0].key == found[2].key != found[1].key and decoded
    assert [media.read()[0].size for media in found] == [(1, 2), (2, 2), (1, 2)]


def test_rows_in_another_form_are_told_nothing_about() -> None:
    data = rows([RED])
    for other in ([{"image": RED}], data.with_format("numpy"), data.with_transform(lambda batch: batch)):
        assert Encoded(other).key(0, lambda doc: [doc["image"]]) is None
    undecoded = data.cast_column("image", datasets.Image(decode=False))
    assert keys(undecoded, lambda doc: [doc["image"]]) == [None]


def test_a_picture_in_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    """And is read as ever, turned as its camera says."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (6, 4), "red").save(tmp_path / "a.jpg", exif=turned)
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
    Image.new("RGB", (6, 4), "red").save(tmp_path / "c.jpg")
    data = rows([str(tmp_path / f"{name}.jpg") for name in "abc"])
    documents = Documents("t", data, 4)
    found = [documents.media(i, lambda doc: [doc["image"].convert("RGB")]) for i in range(3)]
    assert found[0].key == found[1].key != found[2].key
    assert [media.read()[0].size for media in found] == [(4, 6), (4, 6), (6, 4)]
    (tmp_path / "a.jpg").unlink()
    assert keys(data, lambda doc: [doc["image"]])[0] is None
