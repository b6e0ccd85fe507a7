"""Answers of a smaller run in the journal of a larger one: the same ones, and only where they cannot differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meteor_bench.config.choose_config import ChooseConfig
from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.reader import read_samples
from meteor_bench.records.run_folder import RunFolder, find_complete
from meteor_bench.runs import model_cache
from meteor_bench.runs.choose import measure
from meteor_bench.runs.choose.carry import carry
from meteor_bench.runs.choose.measure import Candidate, Measurer
from meteor_bench.runs.job import execute, prepare
from meteor_bench.runs.model_cache import ModelCache
from meteor_bench.runs.single_run import SingleRun
from tests import synthetic
from tests.runs.choose.problem import World


def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> tuple[SingleRun, SingleRun]:
    """A finished run on four questions with two answers in its journal, and the same on eight, not begun."""
    monkeypatch.setattr(model_cache, "default", lambda: World(0))
    monkeypatch.setattr(SingleRun, "environment", synthetic.ENVIRONMENT)
    run = RunConfig(
        method="fastv", ratio=0.5, tasks=("pocket_gqa",), limit=4, out=tmp_path, baseline=False, dtype=dtype
    )
    shared = ModelCache()
    small = prepare(run, shared)
    path = execute(run, small, timed=False).path
    lines = [{"fingerprint": small.main.fingerprint[:16], "key": f"pocket_gqa/{i}", "request": "r"} for i in (0, 1)]
    others = [{"fingerprint": "of another run", "key": "pocket_gqa/2", "request": "r"}]
    (path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines + others))
    return small.main, prepare(replace(run, limit=8), shared).main


def test_answers_are_taken_over_under_the_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = pair(tmp_path, monkeypatch, "float32")
    assert carry(small, large) == 2 and carry(small, large) == 2, "again changes nothing"
    with RunFolder.open(large.config, large.fingerprint) as folder:
        found = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    assert [(line["fingerprint"], line["key"]) for line in found] == [
        (large.fingerprint[:16], "pocket_gqa/0"),
        (large.fingerprint[:16], "pocket_gqa/1"),
    ]


def test_below_float32_all_are_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert carry(*pair(tmp_path, monkeypatch, "bfloat16")) == 0
    assert len(list(tmp_path.glob("*/answers.jsonl"))) == 1


def test_one_that_comes_back_has_its_answers_of_the_round_after_which_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cache, "default", lambda: World(0))
    monkeypatch.setattr(SingleRun, "environment", synthetic.ENVIRONMENT)
    taken: list[tuple[str, int | None]] = []

    def noted(small: SingleRun, large: SingleRun) -> int:
        if find_complete(small.config.out, small.fingerprint) is None:
            return 0
        taken.append((large.config.method, small.config.limit))
        return 4

    monkeypatch.setattr(measure, "carry", noted)
    rounds = Measurer(ChooseConfig(max_drop=1.0, tasks=("pocket_gqa",), limit=16, out=tmp_path), timed=False)
    stays, leaves = Candidate("fastv", 0.5), Candidate("random", 0.5)
    rounds.measure([stays, leaves], 4)
    rounds.measure([stays], 8)
    rounds.measure([leaves], 16)
    assert taken == [("none", 4), ("fastv", 4), ("none", 8), ("random", 4)]
    assert rounds.asked == 2 * 4 + (8 - 4) + (16 - 4)


@pytest.mark.slow
@pytest.mark.xdist_group("lmms_eval")
def test_what_was_carried_is_what_would_be_answered(tmp_path: Path) -> None:
    """On the shipped model, through lmms-eval."""
    config = ChooseConfig(max_drop=1.0, tasks=("pocket_gqa",), limit=12, device="cpu", out=tmp_path / "carried")
    one = Candidate("fastv", 0.5)
    rounds = Measurer(config, timed=False)
    rounds.measure([one], 6)
    last = rounds.measure([one], 12)[one]
    assert rounds.asked == 12
    alone = Measurer(replace(config, out=tmp_path / "alone"), timed=False)
    assert alone.measure([one], 12)[one] == last and alone.asked == 12
    answers = []
    for out in ("carried", "alone"):
        (path,) = [p for p in (tmp_path / out).glob("*-fastv-*") if len(read_samples(p)) == 12]
        answers.append([(s.doc_id, s.answer, s.score, s.tokens, s.flops) for s in read_samples(path)])
    assert answers[0] == answers[1]
