"""The model class on its own: what it makes of lmms-eval's requests and arguments."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import datasets
import pytest
from lmms_eval.api.instance import Instance
from PIL import Image

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import (
    ConfigError,
    MediaError,
    UnknownNameError,
    UnsupportedError,
)
from meteor_bench.core.request import Request
from meteor_bench.engine.session import Session
from meteor_bench.lmms.inputs import Inputs
from meteor_bench.lmms.media import Broken
from meteor_bench.lmms.plugin import MAX_NEW_TOKENS, MeteorBench
from meteor_bench.methods.none import NoPruning
from tests import hubs
from tests.lmms.fakes import TOKENS, FakeSession, constant

PNG = io.BytesIO()
Image.new("RGB", (4, 4)).save(PNG, "PNG")
RED, BLUE = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")


def model(session: Any, docs: dict[str, list[Any]] | None = None) -> MeteorBench:
    made = MeteorBench(session, batch_size=8)
    made.task_dict["t"] = {"test": datasets.Dataset.from_dict(docs or {"image": [RED, BLUE, RED], "a": [0, 1, 2]})}
    return made


def ask(doc_id: int, question: str = "?", repeats: int = 1, **generation: Any) -> Instance:
    return Instance(
        request_type="generate_until",
        arguments=(question, generation, lambda doc: [doc["image"]], doc_id, "t", "test"),
        idx=0,
        metadata={"task": "t", "doc_id": doc_id, "repeats": repeats, "split": "test"},
    )


class Remembers(FakeSession):
    def __init__(self) -> None:
        super().__init__(lambda request: f"answer to {request.key}")
        self.requests: list[Request] = []

    def answer(self, requests: Sequence[Request], *rest: Any, **more: Any) -> None:
        self.requests += requests
        super().answer(requests, *rest, **more)


def test_answers_come_in_the_order_of_the_requests_with_their_measurements() -> None:
    results = model(Remembers()).generate_until([ask(2), ask(0), ask(1)])
    assert [result.text for result in results] == ["answer to t/2", "answer to t/0", "answer to t/1"]
    assert results[0].token_counts is not None
    counts = results[0].token_counts.to_dict()
    assert counts["input_tokens"] == 256 + 9
    assert counts["output_tokens"] == 3
    assert counts["tokens"] == TOKENS
    assert counts["latency_ms"] == {"total": 1.25}


def test_repeats_and_padding_are_answered_once() -> None:
    session = Remembers()
    request = ask(1)
    assert [r.text for r in model(session).generate_until([request, request, ask(1)])] == ["answer to t/1"] * 3
    assert session.asked == ["t/1"]


def test_equal_pictures_have_equal_keys_even_where_a_task_states_none() -> None:
    session = Remembers()
    model(session).generate_until([ask(0), ask(1), ask(2)])
    keys = [request.media_key for request in session.requests]
    assert keys[0] == keys[2] != keys[1]


def test_a_stated_key_is_taken_and_no_picture_is_opened() -> None:
    session = Remembers()
    made = model(session, {"image": [None, None], "media_key": ["x", "y"]})
    requests = list(made.requests([ask(0), ask(1)]))
    assert [request.media_key for request in requests] == ["x", "y"]


def test_a_broken_picture_under_a_stated_key_fails_its_questions_alone() -> None:
    kinds = datasets.Features({"image": datasets.Image(), "media_key": datasets.Value("string")})
    good = {"bytes": PNG.getvalue(), "path": None}
    images = [good, {"bytes": b"no picture", "path": None}, {"bytes": None, "path": "gone.jpg"}]
    made = model(constant("x"))
    data = datasets.Dataset.from_dict({"image": images, "media_key": ["a", "b", "c"]}, features=kinds)
    made.task_dict["t"] = {"test": data}
    with pytest.raises(Broken, match=r"t: row [12]: its picture cannot be read .*; fetch the data again, or give --sk"):
        made.generate_until([ask(0), ask(1), ask(2)])
    made._inputs = Inputs(skip_broken=True)
    results = made.generate_until([ask(0), ask(1), ask(2), ask(1, "again?")])
    assert [result.text for result in results] == ["x", "", "", ""]
    (note,) = results[1].token_counts.to_dict()["notes"]
    assert note.startswith("failed: t: row 1: ") and note.endswith("; fetch the data again"), "no advice that was taken"


def test_generation_arguments_are_read_and_left_alone() -> None:
    session = Remembers()
    generation = {"max_new_tokens": 5, "until": "\n", "temperature": 0.0, "do_sample": False}
    instance = ask(0, **generation)
    model(session).generate_until([instance, ask(1), ask(2, until=["a", "b"], max_new_tokens=3)])
    assert [(r.max_new_tokens, r.until) for r in session.requests] == [
        (5, ("\n",)),
        (MAX_NEW_TOKENS, ()),
        (3, ("a", "b")),
    ]
    assert instance.args[1] == generation


@pytest.mark.parametrize("generation", [{"do_sample": True, "temperature": 0.7}, {"num_beams": 3}])
def test_sampling_is_refused(generation: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="task t asks for sampling or beams"):
        model(constant("x")).generate_until([ask(0, **generation)])


@pytest.mark.parametrize("visuals", [[], None])
def test_a_question_that_shows_nothing_is_asked_all_the_same(visuals: Any) -> None:
    session = Remembers()
    alone = ask(0)
    alone.arguments = ("?", {}, lambda doc: visuals, 0, "t", "test")
    results = model(session).generate_until([alone, ask(1)])
    assert [result.text for result in results] == ["answer to t/0", "answer to t/1"]
    (request,) = [request for request in session.requests if request.key == "t/0"]
    assert request.media_key == "no picture" and list(request.media()) == []


@pytest.mark.parametrize(("visuals", "shown"), [([7], "int"), ([None], "NoneType"), ([RED, "x"], "str")])
def test_anything_but_pictures_is_refused(visuals: Any, shown: str) -> None:
    instance = ask(0)
    instance.arguments = ("?", {}, lambda doc: visuals, 0, "t", "test")
    with pytest.raises(UnsupportedError, match=f"task t shows the model {shown}"):
        model(constant("x")).generate_until([instance])


def test_likelihoods_are_losses_from_a_session_that_offers_them() -> None:
    class Scores(FakeSession):
        def loglikelihood(self, requests: Sequence[Request], continuations: Sequence[str], batch: int) -> list[Any]:
            return [(float(len(text)), request.key) for request, text in zip(requests, continuations, strict=True)]

    instances = []
    for i, text in enumerate([" yes", lambda doc: "no" * doc["a"]]):
        instance = ask(1)
        instance.idx, instance.arguments = i, ("?", text, lambda doc: [doc["image"]], 1, "t", "test")
        instances.append(instance)
    results = model(Scores(lambda request: "")).loglikelihood(instances)
    assert [result.text for result in results] == [(4.0, "t/1"), (2.0, "t/1/1")]
    with pytest.raises(UnsupportedError, match="compares likelihoods"):
        model(constant("x")).loglikelihood(instances)


def test_several_rounds_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="several rounds"):
        model(constant("x")).generate_until_multi_round([ask(0)])


def test_clean_keeps_the_model() -> None:
    made = model(constant("x"))
    made.clean()
    assert made.generate_until([ask(0)])[0].text == "x"


def test_lmms_eval_finds_the_class_and_builds_it_from_model_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmms_eval.models import get_model

    built: list[RunConfig] = []
    monkeypatch.setattr("meteor_bench.lmms.plugin._build", lambda config: built.append(config) or constant("x"))
    made = get_model("meteor_bench").create_from_arg_string(
        "method=meteor,ratio=0.76,stages=encode+fuse,seed=3",
        {"batch_size": "4", "max_batch_size": None, "device": "cpu"},
    )
    assert isinstance(made, MeteorBench)
    assert made._batch_size == 4
    assert built == [
        RunConfig(method="meteor", ratio=0.76, stages=("encode", "fuse"), seed=3, device="cpu", baseline=True)
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ration": 0.5}, UnknownNameError, "unknown model argument 'ration'; did you mean 'ratio'"),
        ({"method": "metor", "ratio": 0.5}, UnknownNameError, "did you mean 'meteor'"),
        ({"method": "meteor", "ratio": 1.5}, ConfigError, "in \\[0, 1\\), found 1.5"),
        ({"batch_size": "auto"}, ConfigError, "batch_size must be 1 or more, not auto"),
    ],
)
def test_wrong_model_arguments_are_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    monkeypatch.setattr("meteor_bench.lmms.plugin._build", lambda config: constant("x"))
    with pytest.raises(error, match=message):
        MeteorBench(**arguments)


def test_pictures_that_a_model_cannot_take_fail_their_questions_alone() -> None:
    """Qwen2.5-VL takes none whose one side is more than 200 times the other."""
    session = Session(hubs.build("qwen2_5_vl"), NoPruning(), TokenBudget(1.0))
    thin = Image.new("RGB", (2010, 10), "red")
    made = model(session, {"image": [BLUE.resize((64, 64)), thin, RED.resize((64, 64))]})
    asked = [ask(i, "what is it", max_new_tokens=2) for i in range(3)]
    with pytest.raises(MediaError, match=r"^t: row 1: .*ratio must be smaller than 200.*, or give --skip-broken$"):
        made.generate_until(asked)
    made._inputs = Inputs(skip_broken=True)
    results = made.generate_until(asked)
    assert [result.token_counts.to_dict()["failed"] for result in results] == [False, True, False]
    (note,) = results[1].token_counts.to_dict()["notes"]
    assert note.startswith("failed: t: row 1: 'tiny-qwen2_5_vl' cannot take its pictures (2010x10 pixels)")
    assert "--skip-broken" not in note


def test_arguments_say_how_pictures_are_read() -> None:
    made = MeteorBench(method="fastv", ratio=0.5, skip_broken=True, device="cpu", frames=4)
    assert made._inputs == Inputs(frames=4, skip_broken=True)
