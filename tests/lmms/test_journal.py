"""Answers on disk: what is read back, and what a torn or foreign line does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meteor_bench.core.errors import RecordError
from meteor_bench.core.request import Answer, Request
from meteor_bench.lmms.journal import Journal

REQUEST = Request("pocket_gqa/0", "m0", lambda: [], "what color?", 16, ("\n\n",))
ANSWER = Answer("rouge é", {"towers": {"a": 3}, "final": 61}, {"total": 1.1}, {"llm": 2}, ("note",))


def test_an_answer_is_on_disk_when_add_returns_and_comes_back_equal(tmp_path: Path) -> None:
    with Journal(tmp_path / "run" / "answers.jsonl", "f" * 64) as journal:
        assert journal.get(REQUEST) is None
        journal.add(REQUEST, ANSWER)
        with Journal(tmp_path / "run" / "answers.jsonl", "f" * 64) as second:
            assert len(second) == 1
            assert second.get(REQUEST) == ANSWER


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, key="pocket_gqa/1"),
        replace(REQUEST, media_key="m1"),
        replace(REQUEST, question="what shape?"),
        replace(REQUEST, max_new_tokens=17),
        replace(REQUEST, until=()),
    ],
)
def test_another_request_is_not_answered(tmp_path: Path, other: Request) -> None:
    with Journal(tmp_path / "a.jsonl", "f" * 64) as journal:
        journal.add(REQUEST, ANSWER)
    with Journal(tmp_path / "a.jsonl", "f" * 64) as journal:
        assert journal.get(other) is None


def test_answers_are_counted_by_benchmark_once_a_question(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl", "f" * 64) as journal:
        for key, question in (("a/0", "?"), ("a/1", "?"), ("a/1", "changed?"), ("b/0", "?")):
            journal.add(replace(REQUEST, key=key, question=question), ANSWER)
    with Journal(tmp_path / "a.jsonl", "f" * 64) as journal:
        assert journal.counts() == {"a": 2, "b": 1}


def test_another_fingerprint_is_not_answered_and_not_lost(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl", "f" * 64) as journal:
        journal.add(REQUEST, ANSWER)
    with Journal(tmp_path / "a.jsonl", "e" * 64) as journal:
        assert journal.get(REQUEST) is None
    with Journal(tmp_path / "a.jsonl", "f" * 64) as journal:
        assert journal.get(REQUEST) == ANSWER


def test_a_torn_last_line_is_dropped_at_every_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    second = replace(REQUEST, key="pocket_gqa/1")
    with Journal(path, "f" * 64) as journal:
        journal.add(REQUEST, ANSWER)
        one = path.stat().st_size
        journal.add(second, ANSWER)
    data = path.read_bytes()
    for cut in range(one, len(data)):
        path.write_bytes(data[:cut])
        with Journal(path, "f" * 64) as journal:
            assert (journal.get(REQUEST), journal.get(second)) == (ANSWER, None)
            journal.add(second, ANSWER)
        assert path.read_bytes() == data


def test_a_broken_line_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path, "f" * 64) as journal:
        journal.add(REQUEST, ANSWER)
    with path.open("ab") as file:
        file.write(b'{"fingerprint"\n')
    with pytest.raises(RecordError, match=r"a\.jsonl:2: not an answer"):
        Journal(path, "f" * 64)


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot write"):
        Journal(tmp_path / "file" / "a.jsonl", "f" * 64)
