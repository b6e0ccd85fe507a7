"""The latency protocol: who runs when, on what, for how long, and what is thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from meteor_bench.core.budget import TokenBudget
from meteor_bench.core.errors import BudgetError, UnsupportedError
from meteor_bench.core.graphs import Graphs
from meteor_bench.engine import match_budget, static_first
from meteor_bench.engine.make_method import make_pruner
from meteor_bench.engine.ready import ready
from meteor_bench.engine.session import Session
from meteor_bench.runs.latency import interleave, passes
from meteor_bench.runs.latency.interleave import measure
from meteor_bench.utils.hardware import WorkingMemory, state
from tests import tiny

VLM = tiny.build("single")


def session(method: str = "none", ratio: float = 0.0) -> Session:
    return Session(VLM, make_pruner(method), TokenBudget.from_ratio(ratio))


class Watch:
    """Notes every pass: which session, how many samples, whether its stages were clocked."""

    def __init__(self, sessions: dict[str, Session]) -> None:
        self.names = {id(one.engine): name for name, one in sessions.items()}
        self.passes: list[tuple[str, int, bool]] = []
        self.lengths: list[int] = []

    def encode(self, engine: Any, pixels: torch.Tensor, *more: Any) -> Any:
        clocked = type(engine.clock).__name__ == "Clock" and engine.clock.enabled
        self.passes.append((self.names[id(engine)], len(pixels), clocked))
        return self._encode(engine, pixels, *more)

    def finish(self, *given: Any, **more: Any) -> Any:
        out = self._finish(*given, **more)
        self.lengths += [len(generation.ids) for generation in out]
        return out

    _encode = staticmethod(static_first.encode)
    _finish = staticmethod(passes.finish)


@pytest.fixture
def sessions() -> dict[str, Session]:
    return {"none": session(), "random": session("random", 0.5), "fastv": session("fastv", 0.5)}


@pytest.fixture
def watch(sessions: dict[str, Session], monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch(sessions)
    monkeypatch.setattr(static_first, "encode", made.encode)
    monkeypatch.setattr(passes, "finish", made.finish)
    return made


def test_a_session_is_timed_with_and_without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Graphs] = []
    monkeypatch.setattr(interleave, "graphs_for", lambda _: made.append(Graphs()) or made[-1])
    one = session("fastv", 0.5)
    found = measure({"a": one, "b": one}, tiny.requests(1), warmup=1, passes=2, graphed=("b",))
    assert [len(timing.samples) for timing in found.values()] == [2, 2] and not found["b"].failure
    (graphs,) = made
    assert one.engine.graphs is None and not graphs.refused
    assert len(graphs.kept) == 2  # to the first logits, and a token: captured once, and none of it the other's
    (apart, whole) = (timing.samples[0] for timing in found.values())
    assert apart["encode_ms"] and whole["encode_ms"] == {} and whole["ttft_ms"] > 0
    assert [whole[f"{stage}_ms"] for stage in ("fuse", "prune", "prefill")] == [None] * 3
    assert whole["flops"] == apart["flops"] and whole["tokens"] == apart["tokens"]
    assert whole["instrumented_ms"] >= whole["ttft_ms"] + 3 * whole["decode_ms_per_token"] - 1e-6


def test_what_cannot_be_captured_is_timed_as_ever_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(Graphs):
        def result(self, *_: Any) -> Any:
            raise RuntimeError("called a synchronizing\nCUDA operation")

    monkeypatch.setattr(interleave, "graphs_for", lambda _: Waiting())
    found = measure({"a": session("fastv", 0.5)}, tiny.requests(1), warmup=1, passes=2, graphed=("a",))["a"]
    assert found.uncaptured.startswith("called a synchronizing CUDA operation (engine/static_first.py, line ")
    assert not found.failure
    assert [set(sample["encode_ms"]) for sample in found.samples] == [{"eye"}] * 2
    assert all(sample["prefill_ms"] > 0 for sample in found.samples)


def test_sessions_take_turns_after_their_warm_ups(sessions: dict[str, Session], watch: Watch) -> None:
    steps: list[int] = []
    found = measure(sessions, tiny.requests(2), warmup=3, passes=4, on_step=lambda: steps.append(1))
    assert len(steps) == 4
    assert {name: len(timing.samples) for name, timing in found.items()} == {"none": 4, "random": 4, "fastv": 4}
    # Before the first round: three passes each, and one that counts the FLOPs of those that prune.
    early = [name for name, _, _ in watch.passes[:11]]
    assert early == ["none"] * 3 + ["random"] * 4 + ["fastv"] * 4
    order = ["none", "random", "fastv"]
    expected = []
    for turn in (0, 1, 2, 0):
        expected += [(n, clocked) for n in order[turn:] + order[:turn] for clocked in (False, True)]
    assert [(name, clocked) for name, _, clocked in watch.passes[11:]] == expected


@pytest.mark.slow
def test_a_batch_is_one_forward(sessions: dict[str, Session], watch: Watch) -> None:
    asked = [replace(r, question="what is it") for r in tiny.requests(11)]
    found = measure(sessions, asked, batch_size=5, warmup=1)
    timed = [p for p in watch.passes if p[1] != 1]  # the FLOPs are counted on one sample
    assert {size for _, size, _ in timed} == {5}
    assert len(timed) == 3 * (1 + 2 * 2)  # two whole batches; the eleventh request is left over
    for name, timing in found.items():
        assert [s["request"].count(",") for s in timing.samples] == [4, 4]
        alone = measure({name: sessions[name]}, asked[:5], warmup=1)[name]
        for stage, total in timing.samples[0]["flops"].items():
            assert total == sum(s["flops"][stage] for s in alone.samples), (name, stage)
        assert timing.samples[0]["tokens"]["kept"] == [s["tokens"]["kept"][0] for s in alone.samples]


def test_answers_have_a_fixed_length_whatever_ends_them(
    sessions: dict[str, Session], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VLM.processor, "eos", frozenset(range(tiny.VOCABULARY)))
    measure(sessions, tiny.requests(1), new_tokens=6, warmup=1)
    assert set(watch.lengths) == {6}


def test_no_round_is_begun_after_the_time_is_up(sessions: dict[str, Session]) -> None:
    found = measure(sessions, tiny.requests(2), warmup=1, passes=50, seconds=1e-9)
    assert {len(timing.samples) for timing in found.values()} == {1}


def test_times_and_counts_of_a_sample() -> None:
    found = measure({"fastv": session("fastv", 0.5)}, tiny.requests(1), new_tokens=3)["fastv"]
    (sample,) = found.samples
    assert set(sample["encode_ms"]) == {"eye"}
    stages = sum(sample["encode_ms"].values()) + sample["fuse_ms"] + sample["prune_ms"] + sample["prefill_ms"]
    assert sample["ttft_ms"] == pytest.approx(stages)
    assert sample["instrumented_ms"] >= sample["ttft_ms"] + 2 * sample["decode_ms_per_token"] - 1e-6
    assert sample["end_to_end_ms"] > sample["preprocess_ms"] > 0
    assert sample["flops"]["prune"] > 0
    # Of two layers the first sees all 48, the second the 24 that are left.
    means = {"layer_mean": [36.0], "kv_mean": [36.0]}
    assert sample["tokens"] == {"kept": [24], "reference": 48, "target": 24, "text": 7, **means}
    assert found.memory_bytes is not None and found.memory_bytes > 0


def test_a_session_that_does_not_fit_is_left_out(sessions: dict[str, Session], monkeypatch: pytest.MonkeyPatch) -> None:
    real = static_first.encode

    def encode(engine: Any, *more: Any) -> Any:
        if engine is sessions["random"].engine:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if engine is sessions["fastv"].engine:
            raise BudgetError("fastv cannot keep 3 tokens")
        return real(engine, *more)

    monkeypatch.setattr(static_first, "encode", encode)
    found = measure(sessions, tiny.requests(1), warmup=1, tolerant=True)
    assert found["random"].failure == "out of memory" and not found["random"].samples
    assert found["fastv"].failure == "fastv cannot keep 3 tokens" and not found["fastv"].samples
    assert len(found["none"].samples) == 1
    with pytest.raises(BudgetError):
        measure(sessions, tiny.requests(1), warmup=1)


def test_samples_of_different_shape_are_no_batch() -> None:
    image, clip = tiny.requests(1)[0], tiny.requests(1, frames=2)[0]
    with pytest.raises(UnsupportedError, match="are no batch"):
        measure({"none": session()}, [image, replace(clip, key="clip")], batch_size=2, warmup=1)


def test_eager_sessions_never_reach_the_fast_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.integrations.sdpa_attention as library

    calls: list[int] = []
    real = library.sdpa_attention_forward

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(1)
        return real(*given, **more)

    monkeypatch.setattr(library, "sdpa_attention_forward", counted)
    asked: Sequence[Any] = tiny.requests(1)
    measure({"eager": session()}, asked, warmup=1, eager=("eager",))
    assert not calls
    measure({"fast": session()}, asked, warmup=1)
    assert calls


def test_working_memory_is_the_highest_sum_of_what_lives_at_once() -> None:
    memory = WorkingMemory(torch.device("cpu"))
    before = torch.ones(1000, 1000)
    with memory:
        a = torch.ones(500, 1000)  # 2 MB
        b = a + 1  # 4
        del a  # 2
        c = torch.cat([b, b, b])  # 8
        del b, c
        torch.ones(700, 1000).sum()  # 2.8
    assert memory.peak_bytes == pytest.approx(8e6, rel=0.01)
    assert before.numel() == 1000000


def test_the_machines_state_is_plain_data() -> None:
    found = state(torch.device("cpu"))
    assert len(found["load"]) == 3 and found["cpus"] >= 1
    assert all(mhz > 0 for mhz in found["cpu_mhz"])


def test_a_session_that_breaks_is_its_own_row_and_keeps_its_samples(
    sessions: dict[str, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, passes = static_first.encode, {"random": 0, "fastv": 0}

    def encode(engine: Any, *more: Any) -> Any:
        if engine is sessions["fastv"].engine:
            raise NotImplementedError("not for BFloat16")
        if engine is sessions["random"].engine:
            passes["random"] += 1
            if passes["random"] == 6:  # memory, FLOPs, two of a sample, then in the middle of the second sample
                raise RuntimeError("CUDA error: device-side assert triggered\nmore of it")
        return real(engine, *more)

    monkeypatch.setattr(static_first, "encode", encode)
    seen: list[str] = []
    found = measure(sessions, tiny.requests(1), warmup=1, passes=3, on_sample=lambda name, sample: seen.append(name))
    assert found["fastv"].failure == "NotImplementedError: not for BFloat16" and found["fastv"].broken
    assert found["random"].failure == "RuntimeError: CUDA error: device-side assert triggered more of it"
    assert len(found["random"].samples) == 1 and found["random"].broken
    assert len(found["none"].samples) == 3 and not found["none"].broken
    assert sorted(seen) == ["none"] * 3 + ["random"]


def test_memory_that_ran_out_is_tried_once_more(sessions: dict[str, Session], monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = static_first.encode, []

    def encode(engine: Any, *more: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(engine, *more)

    monkeypatch.setattr(static_first, "encode", encode)
    found = measure({"none": sessions["none"]}, tiny.requests(1), warmup=1)
    assert len(found["none"].samples) == 1 and not found["none"].failure


def test_warming_up_ends_with_the_time(sessions: dict[str, Session], monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = static_first.encode, []
    monkeypatch.setattr(static_first, "encode", lambda *given: calls.append(1) or real(*given))
    measure({"none": sessions["none"]}, tiny.requests(1), warmup=50, seconds=1e-9)
    assert len(calls) == 3  # memory, and the two of a sample


def test_what_is_captured_for_a_shape_is_captured_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches' questions differ in length; three of four are not what the warm-up passes are made of."""
    made: list[str] = []

    class Noting(Graphs):
        def runner(self, step: Any) -> Any:
            made.append("token")
            return step

        def result(self, sent: Any, make: Any) -> Any:
            made.append("first")
            return super().result(sent, make)

    monkeypatch.setattr(interleave, "graphs_for", lambda _: Noting())
    timed = interleave._sample

    def sample(*given: Any) -> Any:
        made.append("timed")
        return timed(*given)

    monkeypatch.setattr(interleave, "_sample", sample)
    asked = tiny.requests(4)
    assert len({len(VLM.processor.prompt(request.question).after) for request in asked}) == 4
    measure({"a": session()}, asked, warmup=1, graphed=("a",))
    assert made == ["first", "token"] * 4 + ["timed"] * 4


def test_a_sample_that_draws_is_captured_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Graphs] = []
    monkeypatch.setattr(interleave, "graphs_for", lambda _: made.append(Graphs()) or made[-1])
    asked = [replace(request, question="what is it") for request in tiny.requests(6)[::2]]
    for method, count in (("fastv", 1), ("random", 3)):
        measure({"a": session(method, 0.5)}, asked, warmup=1, graphed=("a",))
        assert len(made[-1].kept) == count + 1  # and one that decodes


def test_budgets_are_searched_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    search, timed = match_budget.searched, interleave._sample
    for module, name, work, note in (
        (match_budget, "searched", search, "searched"),
        (interleave, "_sample", timed, "timed"),
    ):

        def noted(*given: Any, work: Any = work, note: str = note) -> Any:
            made.append(note)
            return work(*given)

        monkeypatch.setattr(module, name, noted)
    measure({"a": ready(VLM, make_pruner("divprune"), 0.5, "flops", method="divprune")}, tiny.requests(2), warmup=1)
    assert made == ["searched"] * 2 + ["timed"] * 2
