"""Agreement with the unpruned model: scored as lmms-eval scores, beside the right run, and never called accuracy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import ConfigError, DataError
from meteor_bench.core.request import FAILED
from meteor_bench.data.own_pictures import AGREEMENT, LIKENESS
from meteor_bench.data.suites import benchmark
from meteor_bench.lmms.evaluate import evaluate
from meteor_bench.lmms.inputs import Inputs
from meteor_bench.lmms.likeness import anls
from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.runs import agreement
from meteor_bench.runs.agreement import agreed, same
from meteor_bench.runs.job import execute
from meteor_bench.runs.single_run import SingleRun
from tests import fake_job, synthetic
from tests.commands import Call
from tests.lmms.fakes import FakeSession

pytestmark = pytest.mark.xdist_group("lmms_eval")


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pictures/sub").mkdir(parents=True)
    for name, colour in {"a": "red", "b": "blue", "sub/c": "green", "sub/d": "red"}.items():
        Image.new("RGB", (64, 64), colour).save(f"pictures/{name}.png")


@settings(deadline=None)  # the first example imports lmms-eval
@given(some.text("abAB.,!", max_size=5), some.text("abAB,?", max_size=5))
def test_two_answers_are_compared_as_lmms_eval_does(one: str, two: str) -> None:
    from lmms_eval.api import metrics

    theirs = metrics.exact_match_hf_evaluate([one], [two], ignore_case=True, ignore_punctuation=True)
    assert same(one, two) == bool(theirs["exact_match"])


def test_case_punctuation_and_spaces_around_do_not_count() -> None:
    assert same("A red car.", "a red car") and not same("a red car", "a red cat")
    assert anls("a red car", "a red cat") == pytest.approx(8 / 9) and anls("car", "dog") == 0


def result(session: FakeSession, name: str) -> Any:
    (found,) = evaluate(session, [benchmark(name).task], journal=Path(f"{id(session)}.jsonl"), batch_size=2)  # type: ignore[arg-type]
    return found


def test_answers_are_scored_beside_the_unpruned_model_s() -> None:
    asked: list[str] = []
    unpruned = FakeSession(lambda request: asked.append(request.question) or f"A thing, no. {request.key[-1]}")  # type: ignore[func-returns-value]
    few = FakeSession(lambda request: "a thing no 0" if request.key[-1] in "03" else f"a thing no {request.key[-1]}!")
    whole = agreed(result(unpruned, "pictures/: What is it?"), None)
    assert set(asked) == {"What is it?"}
    assert whole.headline == 100 and whole.metrics == {AGREEMENT: 1.0, LIKENESS: 1.0}
    said = {(one["task"], one["doc_id"]): one["answer"] for one in whole.samples}
    scored = agreed(result(few, "pictures/: What is it?"), said)
    assert [one["score"] for one in scored.samples] == [1, 1, 1, 0] and scored.headline == 75
    assert [one["target"] for one in scored.samples] == [f"A thing, no. {i}" for i in range(4)]
    likeness = [anls(one["answer"], one["target"]) for one in scored.samples]
    assert scored.metrics == {AGREEMENT: 0.75, LIKENESS: pytest.approx(sum(likeness) / 4)}
    assert scored.families == {"sub": 50.0} and scored.data_digest == whole.data_digest
    keys = [one["media_key"] for one in scored.samples]
    assert keys[0] == keys[3] != keys[1], "clustered by picture"


def test_what_was_not_answered_agrees_with_nothing() -> None:
    whole = result(FakeSession(lambda request: ""), "pictures/")
    lost = replace(whole, samples=[{**one, "notes": [f"{FAILED}it was broken"]} for one in whole.samples])
    assert agreed(lost, None).metrics == {AGREEMENT: 0.0, LIKENESS: 0.0}


def test_past_a_broken_picture_that_comes_first() -> None:
    Path("pictures/a.png").write_bytes(b"no picture")
    task = benchmark("pictures/").task
    with pytest.raises(DataError, match=r"is of no known format; mend the file or take it away$"):
        evaluate(FakeSession(lambda request: "a cat"), [task], journal=Path("one.jsonl"), batch_size=2)  # type: ignore[arg-type]
    (found,) = evaluate(
        FakeSession(lambda request: "a cat"),  # type: ignore[arg-type]
        [task],
        journal=Path("two.jsonl"),
        batch_size=2,
        inputs=Inputs(skip_broken=True),
    )
    assert [one["answer"] for one in found.samples] == ["", "a cat", "a cat", "a cat"]
    (note,) = found.samples[0]["notes"]
    assert note.endswith("row 0: its picture cannot be read (of no known format); mend the file or take it away")
    assert agreed(found, None).headline == 75


def test_it_stands_alone() -> None:
    with pytest.raises(ConfigError, match=r"^own_pictures has no answers, .* run it by itself$"):
        agreement.check(RunConfig(tasks=("pictures/", "pocket_gqa")))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> fake_job.Engine:
    """A job whose method answers every fourth picture otherwise."""
    engine = fake_job.install(monkeypatch)
    monkeypatch.setattr(SingleRun, "environment", synthetic.ENVIRONMENT)

    def samples(config: RunConfig, limit: int | None) -> list[Any]:
        rows = [one for one in synthetic.samples(config, n=40) if one.task == "pocket_gqa"]
        other = config.method != "none"
        return [
            replace(one, task="own_pictures", target="", answer="a dog" if other and one.doc_id % 4 == 0 else "A cat.")
            for one in rows
        ]

    engine._samples = samples
    return engine


def test_a_run_says_agreement_and_never_accuracy(made: fake_job.Engine, call: Call, tmp_path: Path) -> None:
    call("list", "tasks", "--suite", "ci")  # `call` changes to its folder, which is that of the pictures
    done = call("run", "--method", "random", "--ratio", "0.5", "--data", "pictures", "--out", "runs")
    assert done.code == 0, done.err
    words = " ".join(done.out.split())
    assert words.startswith("Agreement with the unpruned model: 75.0 % of 40 answers are the same (95 % interval ")
    assert "their mean ANLS is 0.75." in words
    assert "Agreement with the unpruned model: pocket, random at ratio 0.5" in done.out
    assert "accuracy" not in done.out.lower().replace("it is no accuracy", "")
    folder = Path(done.out.splitlines()[-1])
    assert read_run(folder).tasks[0].score == 75 and read_run(folder).tasks[0].metric == AGREEMENT
    assert {one.target for one in read_samples(folder)} == {"A cat."}
    again = call("run", "--method", "random", "--ratio", "0.5", "--data", "pictures", "--out", "runs", "--json")
    assert json.loads(again.out)["run"]["difference"] == -25 and made.asked == ["none", "random"], "nothing twice"
    # Another method takes the unpruned answers from the record.
    execute(RunConfig(method="uniform", ratio=0.5, tasks=("pictures/",), out=Path("runs")))
    assert made.asked == ["none", "random", "uniform"]
    several = call("report", "runs").out
    assert "Agreement with the unpruned model per benchmark" in several
    assert "accuracy" not in several.lower().replace("it is no accuracy", "")
    refused = call("report", "runs", "--html", "page.html")
    assert refused.code == 2 and "leave --html out" in refused.err
    synthetic.reference(Path("runs"))
    page = call("report", "runs", "--html", "page.html")
    assert page.code == 0 and "agreement was measured: " in page.err and folder.name in page.err
    assert "own_pictures" not in Path("page.html").read_text(encoding="utf-8")


def test_a_picture_that_could_not_be_read_is_said_beside_the_share(made: fake_job.Engine, call: Call) -> None:
    whole, why = made._samples, f"{FAILED}own_pictures: row 5: its picture cannot be read"

    def broken(config: RunConfig, limit: int | None) -> list[Any]:
        return [replace(one, answer="", notes=(why,)) if one.doc_id == 5 else one for one in whole(config, limit)]

    made._samples = broken
    call("list", "tasks", "--suite", "ci")
    done = call("run", "--method", "random", "--ratio", "0.5", "--data", "pictures", "--out", "runs", "--skip-broken")
    said = " ".join(done.out.partition("Tokens: ")[0].split())
    assert done.code == 1 and "72.5 % of 40 answers are the same" in said, done.err
    assert said.endswith("; 1 picture could not be read and counts as not the same.")


@pytest.mark.slow
def test_a_folder_through_the_shipped_model(call: Call) -> None:
    given = ["run", "--method", "random", "--ratio", "0.9", "--data", "pictures", "--ask", "what color is the thing"]
    done = call(*given, "--device", "cpu", "--out", "runs")
    assert done.code == 0 and done.out.startswith("Agreement with the unpruned model: "), done.err
    samples = read_samples(Path(done.out.splitlines()[-1]))
    assert {one.question for one in samples} == {"what color is the thing"} and len(samples) == 4
    assert [one.score for one in samples] == [float(same(one.answer, str(one.target))) for one in samples]
    shown = call("show", "pictures/1", "--method", "random", "--ratio", "0.9", "--device", "cpu")
    assert shown.code == 0 and "the unpruned model's answer: " in shown.out, shown.err
    Path("pictures/bad.png").write_bytes(b"no picture")
    assert "pictures/bad.png is of no known format, or give --skip-broken" in call(*given, "--device", "cpu").err
    past = call(*given, "--device", "cpu", "--out", "runs", "--skip-broken")
    assert past.code == 1 and "1 sample could not be answered" in past.err, past.err
