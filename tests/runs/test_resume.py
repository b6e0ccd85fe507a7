"""What a run may take from an earlier one: all of its answers where nothing that can change one differs, else none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.attention_probe import KERNEL
from meteor_bench.core.request import Answer, Request
from meteor_bench.engine.load_model import load_model
from meteor_bench.lmms.journal import Journal
from meteor_bench.records import code_digest
from meteor_bench.records.provenance import PACKAGE
from meteor_bench.records.reader import read_run
from meteor_bench.records.run_folder import RunFolder
from meteor_bench.runs import single_run as part_module
from meteor_bench.runs.fake_backend import FakeBackend
from meteor_bench.runs.job import execute
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.single_run import SingleRun
from tests import fake_job

FASTV = RunConfig(method="fastv", ratio=0.76, tasks=("pocket_gqa", "pocket_pope"), limit=6)
REQUEST = Request("pocket_gqa/0", "m0", lambda: [], "what color is it?", 16)
ANSWER = Answer("red", {"final": 61})

Change = Callable[[pytest.MonkeyPatch], dict[str, Any]]


def setting(**changed: Any) -> Change:
    """Another setting of the run."""
    return lambda patch: changed


def about(name: str, value: Any) -> Change:
    """Another value of what the model says of itself."""

    def change(patch: pytest.MonkeyPatch) -> dict[str, Any]:
        def blueprint(shared: ModelCache, config: RunConfig) -> Any:
            made: Any = fake_job.Engine().blueprint(config, load_model)
            made.provenance[name] = value
            return made

        patch.setattr(ModelCache, "blueprint", blueprint)
        return {}

    return change


def source(place: str, holds: str) -> Change:
    """An edit of a source file of ours that holds what is meant."""
    assert holds in (PACKAGE / place).read_text(encoding="utf-8")

    def change(patch: pytest.MonkeyPatch) -> dict[str, Any]:
        read = code_digest._source

        def edited(file: Path) -> Any:
            return read(file)._replace(digest="edited") if file == PACKAGE / place else read(file)

        patch.setattr(code_digest, "_source", edited)
        return {}

    return change


def attribute(name: str, value: Any) -> Change:
    """Something else where a run's identity is made."""

    def change(patch: pytest.MonkeyPatch) -> dict[str, Any]:
        patch.setattr(part_module, name, value)
        return {}

    return change


OTHER: dict[str, Change] = {
    "method": setting(method="random"),
    "ratio": setting(ratio=0.5),
    "parameter": setting(parameters={"layer": 3}),
    "seed": setting(seed=1),
    "frames": setting(frames=2),
    "positions": about("positions", "renumber"),
    "stages": about("parameters", {"stages": ["decode"]}),
    "checkpoint digest": about("checkpoint", "x" * 64),
    "fusion": about("variant", "pocket-independent"),
    "dtype": about("dtype", "bfloat16"),
    "kind of device": attribute("device_name", lambda device: "another"),
    "code of the engine": source("engine/prefill.py", "def begin("),
    "code of the method": source("methods/fastv.py", "class FastV"),
    "code of the model": source("models/pocket/modules.py", "class PocketVLM"),
    "attention kernel": source("core/attention_probe.py", f'"{KERNEL}"'),
    "prompt template": source("models/pocket/model.py", "def prompt("),
    "version of a library": attribute("package_version", lambda name: "0"),
    "data digest": attribute("_task_digest", lambda root, task: "0" * 64),
}
SAME: dict[str, Change] = {
    "batch size": setting(batch_size=3),
    "no reuse": setting(reuse=False),
    "another method's code": source("methods/evoprune/method.py", "class EvoPrune"),
    "code of the report": source("report/table.py", "def "),
}


def part(config: RunConfig) -> SingleRun:
    return SingleRun(config, ModelCache().blueprint(config))


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a run that was killed after one answer."""
    engine = fake_job.install(monkeypatch)
    config = replace(FASTV, out=tmp_path, baseline=False)

    def die(method: str) -> None:
        raise KeyboardInterrupt

    engine.before = die
    with pytest.raises(KeyboardInterrupt):
        execute(config)
    (folder,) = tmp_path.iterdir()
    with Journal(folder / "answers.jsonl", part(config).fingerprint) as journal:
        journal.add(REQUEST, ANSWER)
    return folder


def continued(killed: Path, change: Change, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Answer | None]:
    """The folder that a run with this change goes on in, and what the killed run's journal answers it."""
    now = part(replace(FASTV, out=killed.parent, **change(monkeypatch)))
    with RunFolder.open(now.config, now.fingerprint) as folder, Journal(killed / "answers.jsonl", now.fingerprint) as j:
        return folder.path, j.get(REQUEST)


@pytest.mark.parametrize("what", OTHER)
def test_what_can_change_an_answer_reuses_none(killed: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    path, answer = continued(killed, OTHER[what], monkeypatch)
    assert path != killed and answer is None
    assert read_run(killed).status == "partial", "nothing of the killed run is lost either"


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_goes_on_with_all_of_them(killed: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    assert continued(killed, SAME[what], monkeypatch) == (killed, ANSWER)


def again(killed: Path) -> None:
    """The killed run once more; its engine kills that one too."""
    with pytest.raises(KeyboardInterrupt):
        execute(replace(FASTV, out=killed.parent, baseline=False))


def test_known_answers_are_not_said_to_be_to_do(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again(killed)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [f"fastv at ratio 0.76: goes on in {killed}", "fastv at ratio 0.76: 1 known, 11 to do"]


def test_progress_counts_the_known_answers_of_benchmarks_yet_to_come(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def evaluate(*rest: Any, on_progress: Callable[[str, int, int], None], **more: Any) -> None:
        on_progress("pocket_pope", 3, 6)
        on_progress("pocket_gqa", 2, 6)
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeBackend, "evaluate", evaluate)
    monkeypatch.setattr(part_module, "track", lambda *shown: nullcontext(done.append))
    again(killed)
    assert done == [1 + 3, 2 + 3]


@pytest.mark.parametrize(
    "change", [{"question": "what colour is it?"}, {"media_key": "m1"}, {"max_new_tokens": 8}, {"until": ("\n",)}]
)
def test_another_prompt_picture_or_limit_is_asked_again(killed: Path, change: dict[str, Any]) -> None:
    with Journal(killed / "answers.jsonl", part(FASTV).fingerprint) as journal:
        assert journal.get(REQUEST) == ANSWER
        assert journal.get(replace(REQUEST, **change)) is None
