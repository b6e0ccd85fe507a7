"""Benchmarks through lmms-eval, with sessions that need no model."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.core.errors import DataError, UnknownNameError
from meteor_bench.core.request import Request
from meteor_bench.data import suites
from meteor_bench.lmms.evaluate import TaskResult, _digest, evaluate
from tests.lmms.fakes import TOKENS, FakeSession, constant, documents, oracle

ALL = list(suites.suite_tasks("pocket"))


def run(session: FakeSession, tasks: list[str], folder: Path, **options: Any) -> list[TaskResult]:
    return evaluate(session, tasks, journal=folder / "answers.jsonl", batch_size=32, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskResult]:
    return {result.task: result for result in run(oracle(), ALL, tmp_path_factory.mktemp("perfect"))}


@pytest.mark.parametrize("task", ALL)
def test_a_perfect_model_gets_100_on_every_document(perfect: dict[str, TaskResult], task: str) -> None:
    result, row = perfect[task], suites.benchmark(task)
    assert result.headline == pytest.approx(100)
    assert all(sample["score"] == 1 for sample in result.samples)
    assert set(result.families.values()) == {100}
    assert result.n == result.n_expected == row.n == len(result.samples)
    assert [sample["doc_id"] for sample in result.samples] == list(range(row.n))


def test_a_sample_holds_what_was_asked_said_and_measured(perfect: dict[str, TaskResult]) -> None:
    doc, sample = documents("pocket_gqa")[3], perfect["pocket_gqa"].samples[3]
    assert sample == {
        "task": "pocket_gqa",
        "doc_id": 3,
        "media_key": doc["media_key"],
        "family": doc["family"],
        "question": doc["question"],
        "target": doc["answer"],
        "answer": doc["answer"],
        "raw": f"{doc['chain']} {doc['answer']}",
        "score": 1.0,
        "tokens": TOKENS,
        "latency_ms": {"total": 1.25},
        "flops": {"llm": 7},
        "notes": ["a note"],
    }
    json.dumps(sample)


def test_results_say_where_single_scores_come_from(perfect: dict[str, TaskResult]) -> None:
    pope = perfect["pocket_pope"]
    assert pope.sample_metric == "pope_accuracy"
    assert pope.metrics["pope_f1_score,none"] == 1
    assert pope.metrics["pope_yes_ratio,none"] == pytest.approx(0.5, abs=0.02)
    assert perfect["pocket_docvqa"].sample_metric == "anls"


def test_the_share_of_yes_is_of_the_answers(tmp_path: Path) -> None:
    said = {"pocket_pope/0": "Yes", "pocket_pope/1": "no", "pocket_pope/2": "maybe"}
    (pope,) = run(FakeSession(lambda request: said.get(request.key, "yes")), ["pocket_pope"], tmp_path, limit=8)
    assert [sample["answer"] for sample in pope.samples][:4] == ["Yes", "no", "maybe", "yes"]
    assert pope.metrics["pope_yes_ratio_of_answers,none"] == 6 / 8


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskResult]:
    return {result.task: result for result in run(constant("zzz"), ALL, tmp_path_factory.mktemp("wrong"), limit=40)}


@pytest.mark.parametrize("task", ALL)
def test_a_wrong_model_gets_0(wrong: dict[str, TaskResult], task: str) -> None:
    assert wrong[task].headline == 0
    assert all(sample["score"] == 0 for sample in wrong[task].samples)


def test_the_headline_is_the_mean_of_the_single_scores_where_it_is_a_mean(tmp_path: Path) -> None:
    session = FakeSession(lambda request: "yes" if len(request.question) % 2 else "no")
    for result in run(session, ["pocket_gqa", "pocket_pope"], tmp_path):
        mean = 100 * sum(sample["score"] for sample in result.samples) / result.n
        metric = result.headline if result.task == "pocket_gqa" else 100 * result.metrics["pope_accuracy,none"]
        assert metric == pytest.approx(mean)


def answer_of(task: str) -> str:
    return str(documents(task)[0]["answer"])


@pytest.mark.parametrize(
    ("task", "said", "score"),
    [
        ("pocket_gqa", lambda a: a.upper() + ".", 1),  # case and punctuation are ignored
        ("pocket_gqa", lambda a: f"row1 col2 {a}", 1),  # a chain counts by its last word
        ("pocket_gqa", lambda a: f"{a} row1", 0),
        ("pocket_gqa", lambda a: "", 0),
        ("pocket_gqa", lambda a: "   ", 0),
        ("pocket_vqa", lambda a: a.upper(), 1),
        ("pocket_scienceqa", lambda a: f"3 plus 4 is {a}", 1),
        ("pocket_scienceqa", lambda a: f"{a} is", 0),
        ("pocket_ai2d", lambda a: f"row1 col1 {a.lower()}", 1),
        ("pocket_seed", lambda a: a.upper(), 1),
        ("pocket_seed", lambda a: a[0], 0),  # no letters to choose from
        ("pocket_pope", lambda a: a.capitalize(), 1),
        ("pocket_pope", lambda a: a + ".", 0),  # as with lmms-eval's POPE
        ("pocket_pope", lambda a: f"{a} it is", 0),
        ("pocket_textvqa", lambda a: a.lower(), 1),
        ("pocket_chartqa", lambda a: a.upper(), 1),
        ("pocket_chartqa", lambda a: f"{a} bars", 0),
        ("pocket_docvqa", lambda a: a.lower(), 1),
        ("pocket_docvqa", lambda a: a[:-1] + "?", lambda a: 1 - 1 / len(a)),  # ANLS forgives a character
        ("pocket_docvqa", lambda a: "?" * len(a), 0),
        ("pocket_ocrbench", lambda a: f"it says {a} there", 1),  # contained is enough
        ("pocket_ocrbench", lambda a: a[:-1], 0),
        ("pocket_mmbench", lambda a: f"the {a}", 1),
        ("pocket_mmbench", lambda a: a.split()[0], 0),
        ("pocket_videomme", lambda a: f"row1 col1 row1 col4 {a}", 1),
        ("pocket_videomme", lambda a: f"{a}.", 0),
        ("pocket_longvideo", lambda a: f"frame1 frame3 {a.upper()}", 1),
        ("pocket_longvideo64", lambda a: f"{a} frame1", 0),
    ],
)
def test_malformed_answers_score_as_the_namesake_scores_them(tmp_path: Path, task: str, said: Any, score: Any) -> None:
    truth = answer_of(task)
    (result,) = run(constant(said(truth)), [task], tmp_path, limit=1)
    assert result.samples[0]["score"] == pytest.approx(score(truth) if callable(score) else score)


def test_mmbench_scores_as_lmms_eval_scores_the_whole(tmp_path: Path) -> None:
    docs = documents("pocket_mmbench")

    def say(request: Request) -> str:
        options = docs[int(request.key.split("/")[1])]["options"]
        kinds = [options[0], options[1], "A", "(B)", f"{options[0]} and {options[1]}", "none", options[2].split()[1]]
        return str(kinds[len(request.question) % len(kinds)])

    (result,) = run(FakeSession(say), ["pocket_mmbench"], tmp_path)
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    entries = [
        {
            **dict(zip("ABCD", [*doc["options"], float("nan")], strict=True)),
            "index": sample["doc_id"],
            "prediction": sample["raw"],
            "answer": "ABC"[doc["options"].index(doc["answer"])],
            "category": "which",
        }
        for doc, sample in zip(docs, result.samples, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas', of lmms-eval's way with frames
        accuracy, *_ = MMBench_Evaluator().eval_result(entries, eval_method="static")
    assert 0 < result.headline < 100
    assert result.headline == pytest.approx(100 * accuracy)


def test_limit_takes_the_first_documents(tmp_path: Path) -> None:
    session = oracle()
    (result,) = run(session, ["pocket_textvqa"], tmp_path, limit=7)
    assert result.n == result.n_expected == 7
    assert sorted(session.asked) == [f"pocket_textvqa/{i}" for i in range(7)]
    (beyond,) = run(oracle(), ["pocket_textvqa"], tmp_path / "beyond", limit=100_000)
    assert beyond.n == beyond.n_expected == suites.benchmark("pocket_textvqa").n


def test_a_benchmark_comes_in_one_call_and_a_picture_is_decoded_once(tmp_path: Path) -> None:
    session = oracle()
    run(session, ["pocket_pope", "pocket_videomme"], tmp_path)
    assert [len(call) for call in session.calls] == [300, 240]
    shown = {doc["media_key"]: doc["frames"] for task in ("pocket_pope", "pocket_videomme") for doc in documents(task)}
    assert {key: len(frames) for key, frames in session.pictures.items()} == shown
    sizes = {picture.size for frames in session.pictures.values() for picture in frames}
    assert sizes == {(128, 128), (64, 64)}


def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    first = oracle()
    before = run(first, ["pocket_seed"], tmp_path, limit=20)
    second = constant("never asked")
    after = run(second, ["pocket_seed"], tmp_path, limit=20)
    assert second.asked == []
    assert after == before
    third = oracle()
    run(third, ["pocket_seed"], tmp_path, limit=25)
    assert sorted(third.asked) == sorted(f"pocket_seed/{i}" for i in range(20, 25))
    fourth = oracle()
    run(fourth, ["pocket_seed"], tmp_path, limit=20, fingerprint="another")
    assert len(fourth.asked) == 20


def test_an_error_of_the_session_comes_out_as_it_is_and_keeps_what_was_answered(tmp_path: Path) -> None:
    def say(request: Request) -> str:
        if request.key == "pocket_seed/5":  # the fake begins with the last one
            raise KeyboardInterrupt
        return "large"

    stdout = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        run(FakeSession(say), ["pocket_seed"], tmp_path, limit=20)
    assert sys.stdout is stdout
    after = constant("large")
    run(after, ["pocket_seed"], tmp_path, limit=20)
    assert sorted(after.asked) == sorted(f"pocket_seed/{i}" for i in range(6))


def test_progress_counts_known_answers_first(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    run(oracle(), ["pocket_pope"], tmp_path, limit=3)
    run(oracle(), ["pocket_pope"], tmp_path, limit=5, on_progress=lambda *step: seen.append(step))
    assert seen == [("pocket_pope", done, 5) for done in (3, 4, 5)]


def test_lmms_eval_is_silent_and_our_own_output_is_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def say(request: Request) -> str:
        sys.stdout.write("ours\n")
        return "A"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(FakeSession(say), ["pocket_mmbench"], tmp_path, limit=2)
        warnings.warn("still heard", stacklevel=1)
    out, err = capfd.readouterr()
    assert out == "ours\nours\n"
    assert err == ""
    assert [str(w.message) for w in caught if w.category is UserWarning] == ["still heard"]
    assert logging.getLogger("meteor_bench.lmms_eval").handlers


def test_unknown_tasks_and_a_wrong_count_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'pocket_popes'; did you mean 'pocket_pope'"):
        run(oracle(), ["pocket_popes"], tmp_path)
    row = suites.Benchmark(**{**vars(suites.benchmark("pocket_pope")), "n": 301})
    monkeypatch.setattr("meteor_bench.lmms.evaluate.benchmark", lambda task: row)
    with pytest.raises(DataError, match="300 documents in pocket, the table says 301"):
        run(oracle(), ["pocket_pope"], tmp_path, limit=2)


def test_nothing_is_written_outside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another folder, too: the benchmarks find their files by themselves."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(oracle(), ALL, tmp_path / "run", limit=1)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["answers.jsonl"]


def test_the_digest_of_the_data_changes_with_any_of_it(perfect: dict[str, TaskResult]) -> None:
    samples = [dict(sample) for sample in perfect["pocket_pope"].samples]
    for column in ("media_key", "question", "target", "doc_id"):
        changed = [dict(sample) for sample in samples]
        changed[7][column] = "another"
        assert _digest(changed) != perfect["pocket_pope"].data_digest == _digest(samples)


def test_deterministic_asks_each_question_by_itself(tmp_path: Path) -> None:
    together, alone = FakeSession(lambda request: "yes"), FakeSession(lambda request: "yes")
    run(together, ["pocket_pope"], tmp_path / "a", limit=6)
    run(alone, ["pocket_pope"], tmp_path / "b", limit=6, deterministic=True)
    assert [len(call) for call in together.calls] == [6]
    assert [len(call) for call in alone.calls] == [1] * 6
