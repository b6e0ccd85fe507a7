"""The journals of several ranks become one: nothing lost, nothing twice, also when it is killed on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from meteor_bench.core.request import Answer, Request
from meteor_bench.lmms.journal import Journal
from meteor_bench.runs.distributed.journals import append, collect

PRINT = "f" * 64
ANSWER = Answer("yes", {"final": 61}, {"total": 1.0}, {"llm": 2}, ())


def request(number: int) -> Request:
    return Request(f"pocket_pope/{number}", "m", lambda: [], "is it?", 4)


def write(path: Path, numbers: range, fingerprint: str = PRINT) -> None:
    with Journal(path, fingerprint) as journal:
        for number in numbers:
            journal.add(request(number), replace(ANSWER, text=str(number)))


def known(path: Path, numbers: range, fingerprint: str = PRINT) -> list[str | None]:
    with Journal(path, fingerprint) as journal:
        answers = [journal.get(request(number)) for number in numbers]
    return [answer.text if answer else None for answer in answers]


def test_journals_of_ranks_are_collected(tmp_path: Path) -> None:
    write(tmp_path / "answers.jsonl", range(0, 3))
    write(tmp_path / "answers.rank0-aa.jsonl", range(2, 8, 2))
    write(tmp_path / "answers.rank1-aa.jsonl", range(1, 8, 2))
    write(tmp_path / "answers.rank1-bb.jsonl", range(8, 9), "e" * 64)
    with (tmp_path / "answers.rank1-aa.jsonl").open("ab") as torn:
        torn.write(b'{"fingerprint": "torn')
    collect(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answers.jsonl"]
    assert known(tmp_path / "answers.jsonl", range(9)) == [*map(str, range(8)), None]
    assert known(tmp_path / "answers.jsonl", range(8, 9), "e" * 64) == ["8"], "another run's are left alone"
    assert len((tmp_path / "answers.jsonl").read_bytes().splitlines()) == 9, "nothing is there twice"


def test_a_collection_that_was_killed_is_done_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    write(whole / "answers.rank0-aa.jsonl", range(0, 4))
    left = (whole / "answers.rank0-aa.jsonl").read_bytes()
    collect(whole)
    merged = (whole / "answers.jsonl").read_bytes()
    for cut in range(0, len(merged), 97):
        (whole / "answers.jsonl").write_bytes(merged[:cut])
        (whole / "answers.rank0-aa.jsonl").write_bytes(left)
        collect(whole)
        assert (whole / "answers.jsonl").read_bytes() == merged


def test_without_ranks_nothing_is_touched(tmp_path: Path) -> None:
    collect(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_answer_is_kept_for_the_reader_to_name(tmp_path: Path) -> None:
    append(tmp_path / "answers.jsonl", [b"no answer\n", b"no answer\n"])
    assert (tmp_path / "answers.jsonl").read_bytes() == b"no answer\n"
