"""Sessions: grouping, batching, cutting, likelihoods; and the latency run on top of them."""

import gc
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import DataError, UnsupportedError
from meteor_bench.core.processing import Clip, Look
from meteor_bench.core.request import Answer, Request
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.session import Session
from meteor_bench.runs.latency.interleave import measure
from tests import tiny


def session(method: str = "none", ratio: float = 0.0, model: str = "shared") -> Session:
    return Session(tiny.build(model), make_pruner(method), TokenBudget.from_ratio(ratio))


def answers(of: Session, requests: Sequence[Request], **how: Any) -> dict[str, Answer]:
    out: dict[str, Answer] = {}
    of.answer(requests, lambda request, answer: out.update({request.key: answer}), **how)
    return out


@pytest.fixture(params=[1, 2])
def hands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Threads that answer at once."""
    count: int = request.param
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    return count


def mixed(count: int) -> list[Request]:
    """Images and clips, questions of the same image apart from each other in the list."""
    clips = [replace(r, key=f"clip/{r.key}", media_key=f"clip/{r.media_key}") for r in tiny.requests(4, frames=3)]
    listed = [*tiny.requests(count), *clips]
    return listed[::2] + listed[1::2]


@cache
def alone(method: str, ratio: float) -> dict[str, Answer]:
    """Every question by itself, with however many threads the first who asks has."""
    return answers(session(method, ratio), mixed(6), batch_size=1, reuse=False)


@pytest.mark.parametrize(("method", "ratio"), [("none", 0.0), ("random", 0.7), ("fastv", 0.7), ("evoprune", 0.5)])
def test_batches_order_and_sharing_change_no_answer(method: str, ratio: float, hands: int) -> None:
    asked = mixed(6)
    of, reference = session(method, ratio), alone(method, ratio)
    assert set(reference) == {r.key for r in asked}
    for how in ({"batch_size": 3}, {"batch_size": 64}, {"batch_size": 64, "reuse": False}):
        found = answers(of, asked[::-1], **how)
        assert {k: a.text for k, a in found.items()} == {k: a.text for k, a in reference.items()}
        assert {k: a.tokens for k, a in found.items()} == {k: a.tokens for k, a in reference.items()}
        assert {k: a.flops for k, a in found.items()} == {k: a.flops for k, a in reference.items()}


def test_of_long_videos_one_is_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch, hands: int) -> None:
    of, events, held = session(), list[str](), list[weakref.ref[Any]]()
    look = of.vlm.processor.look

    def watched(media: Sequence[Any]) -> Look:
        seen = look(media)
        held.append(weakref.ref(seen.pixels))
        return seen

    def video(i: int) -> Clip:
        gc.collect()
        assert not any(ref() is not None for ref in held)
        events.append(f"decode {i}")
        clip = Clip(tiny.picture(k) for k in range(6))
        held.append(weakref.ref(clip))
        return clip

    monkeypatch.setattr(of.vlm.processor, "look", watched)
    asked = [
        replace(request, key=f"{i}/{k}", media_key=f"video {i}", media=partial(video, i))
        for i in range(3)
        for k, request in enumerate(tiny.requests(2))
    ]
    of.answer(asked, lambda request, answer: events.append(f"answer {request.key}"))
    # The next one may be decoded as soon as this one's pixels are gone, while its questions are answered.
    decoded = [event for event in events if event.startswith("decode")]
    assert decoded == [f"decode {i}" for i in range(3)] and events[0] == decoded[0]
    answered = [e for e in events if e not in decoded]
    assert sorted(answered) == [f"answer {i}/{k}" for i in range(3) for k in range(2)]
    assert hands > 1 or answered == sorted(answered)


def test_a_failure_of_one_hand_ends_the_run(hands: int) -> None:
    asked = tiny.requests(80)
    found: list[str] = []

    def broken() -> Sequence[Any]:
        raise DataError("row 60")

    asked = [replace(request, media=broken) if i >= 60 else request for i, request in enumerate(asked)]
    with pytest.raises(DataError, match="row 60"):
        session().answer(asked, lambda request, answer: found.append(request.key))
    assert 0 < len(found) <= 60

    def stop(request: Request, answer: Answer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session().answer(tiny.requests(8), stop)
    left = [t.name for t in threading.enumerate() if t.name.startswith(("answer", "ahead"))]
    assert not left


def test_an_image_is_decoded_once_for_all_its_questions() -> None:
    seen: list[str] = []

    def counted(request: Request) -> Request:
        def media() -> Sequence[Any]:
            seen.append(request.media_key)
            return request.media()

        return replace(request, media=media)

    answers(session(), [counted(r) for r in tiny.requests(8)], batch_size=2)
    assert sorted(seen) == ["media0", "media1", "media2", "media3"]


def test_an_answer_ends_at_its_own_limit_and_stop_strings() -> None:
    base = tiny.requests(2, new_tokens=6)
    of = session()
    whole = answers(of, base)
    short = answers(of, [replace(base[0], max_new_tokens=2), base[1]])
    assert whole[base[0].key].text.startswith(short[base[0].key].text)
    assert len(short[base[0].key].text) < len(whole[base[0].key].text)
    assert short[base[1].key].text == whole[base[1].key].text
    stop = whole[base[1].key].text[1:3]
    cut = answers(of, [replace(base[1], until=(stop, ""))])
    assert cut[base[1].key].text == whole[base[1].key].text.split(stop)[0]


@pytest.mark.parametrize("method", ["none", "fastv"])
def test_greedy_answers_are_the_likeliest_of_single_tokens(method: str) -> None:
    of = session(method, 0.0 if method == "none" else 0.5)
    asked = tiny.requests(4, new_tokens=1)
    best = answers(of, asked)
    texts = [best[r.key].text for r in asked]
    usable = [(r, t) for r, t in zip(asked, texts, strict=True) if t]
    assert usable
    scored = of.loglikelihood([r for r, _ in usable], [t for _, t in usable], batch_size=3)
    assert all(value.greedy for value in scored)
    other = ["zebra" if t != "zebra" else "apple" for _, t in usable]
    worse = of.loglikelihood([r for r, _ in usable], other)
    assert all(a.loss <= b.loss for a, b in zip(scored, worse, strict=True))


def test_the_likelihood_of_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="empty answer"):
        session().loglikelihood(tiny.requests(1), [""])


def test_shares_of_the_batchs_time_add_up() -> None:
    found = answers(session("random", 0.5), tiny.requests(6))
    for answer in found.values():
        parts = [ms for stage, ms in answer.latency_ms.items() if stage != "total"]
        assert answer.latency_ms["total"] == pytest.approx(sum(parts))
        assert answer.latency_ms["prefill"] > 0 and answer.latency_ms["encode"] > 0


def test_the_sessions_clock_is_its_own_again_after_a_latency_run() -> None:
    of = session()
    clock = of.engine.clock
    measure({"none": of}, tiny.requests(1), warmup=0)
    assert of.engine.clock is clock
    assert of.device == torch.device("cpu")
