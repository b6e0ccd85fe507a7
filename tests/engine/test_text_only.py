"""Questions without a picture, against the library's own `generate` on the text alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.model import VLM
from meteor_bench.core.request import (
    Answer,
    Request,
)
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.session import Session
from tests import eagle, hubs, tiny

NEW_TOKENS = 5


def text_only(i: int) -> Request:
    return Request(f"t/{i}", "no picture", list, tiny.QUESTIONS[i % 4], NEW_TOKENS)


def answered(session: Session, asked: list[Request], **how: Any) -> dict[str, Answer]:
    out: dict[str, Answer] = {}
    session.answer(asked, lambda request, answer: out.update({request.key: answer}), **how)
    return out


def greedy(model: Any, ids: list[int], ends: frozenset[int]) -> list[int]:
    """Token by token through the library's whole forward, without a cache."""
    said: list[int] = []
    while len(said) < NEW_TOKENS:
        with torch.inference_mode():
            said.append(int(model(input_ids=torch.tensor([[*ids, *said]])).logits[0, -1].argmax()))
        if said[-1] in ends:
            return said[:-1]
    return said


@pytest.mark.parametrize("family", hubs.FAMILIES)
def test_answers_are_those_of_the_library(family: str) -> None:
    session = Session(hubs.build(family), make_pruner("none"), TokenBudget(1.0))
    model, processor = hubs.library(family)
    asked = [text_only(i) for i in range(4)]
    together, alone = answered(session, asked), answered(session, asked, batch_size=1, reuse=False)
    for request in asked:
        message = {"role": "user", "content": [{"type": "text", "text": request.question}]}
        text = processor.apply_chat_template([message], add_generation_prompt=True)
        ids = list(processor.tokenizer(text)["input_ids"])
        want = processor.tokenizer.decode(
            greedy(model, ids, session.vlm.processor.eos), skip_special_tokens=True
        ).strip()
        for found in (together[request.key], alone[request.key]):
            assert found.text == want
            assert (found.tokens["final"], found.tokens["reference"], found.tokens["text"]) == (0, 0, len(ids))
            assert found.notes == ("no picture: answered from the text alone",)


def of_eagle() -> VLM:
    return eagle.build()


def of_pocket() -> VLM:
    return tiny.build("independent")


@pytest.mark.parametrize("build", [of_eagle, of_pocket])
def test_a_model_without_one_of_the_librarys_reads_the_text_alone(build: Any) -> None:
    vlm = build()
    found = answered(Session(vlm, make_pruner("none"), TokenBudget(1.0)), [text_only(0)])["t/0"]
    ids = list(vlm.processor.words(tiny.QUESTIONS[0]))
    # The same decoder, which the tests of the models compare with the library's, on one sequence without a picture.
    model = vlm.decoder.model
    model.set_attn_implementation("eager")
    assert found.text == vlm.processor.decode(greedy(model, ids, vlm.processor.eos))


@pytest.mark.parametrize("method", ["random", "fastv", "evoprune", "cdpruner"])
def test_pictures_beside_them_are_pruned_as_ever(method: str) -> None:
    session = Session(tiny.build("shared"), make_pruner(method), TokenBudget.from_ratio(0.5))
    pictured = tiny.requests(4)
    want = answered(session, pictured)
    mixed = answered(session, [text_only(0), *pictured, text_only(1)])
    assert {r.key: (mixed[r.key].text, mixed[r.key].tokens) for r in pictured} == {
        key: (answer.text, answer.tokens) for key, answer in want.items()
    }
    assert mixed["t/0"].tokens["final"] == mixed["t/0"].tokens["target"] == 0
    plain = Session(tiny.build("shared"), make_pruner("none"), TokenBudget(1.0))
    assert mixed["t/0"].text == answered(plain, [text_only(0)])["t/0"].text


def test_so_are_likelihoods() -> None:
    session = Session(tiny.build("shared"), make_pruner("fastv"), TokenBudget.from_ratio(0.5))
    best = answered(session, [text_only(0)])["t/0"].text.split()[0]
    (scored,) = session.loglikelihood([text_only(0)], [best])
    assert scored.greedy
