"""The questions and pictures of the HTML report: which are chosen, and what is told of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import DataError
from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.records.run_folder import find_runs
from meteor_bench.records.schema import SampleRecord
from meteor_bench.report.html.samples import choose, questions
from meteor_bench.runs.patches.report_pictures import draw
from tests import synthetic

ROOT = Path(__file__).parents[2]


def sample(task: str, doc: int, score: float, **changes: Any) -> SampleRecord:
    row = synthetic.samples(RunConfig(), n=1)[0]
    return replace(row, task=task, doc_id=doc, score=score, **changes)


def test_questions_become_columns() -> None:
    before = [sample("t", 0, 1.0, answer="red"), sample("t", 1, 0.0, target=["a", "b"], question="q" * 2000)]
    after = [sample("t", 1, 0.5, answer="blue", tokens={"final": 7})]
    made = questions([before, after])
    assert (list(made.task), list(made.doc)) == (["t", "t"], [0, 1])
    assert [made.texts[i] for i in made.target] == ["red", "a / b"]
    assert len(made.texts[made.question[1]]) < 1300
    assert made.score == [[1.0, 0.0], [None, 0.5]] and made.tokens == [[256, 256], [None, 7]]
    assert made.answer[1][0] is None and made.texts[made.answer[1][1] or 0] == "blue"
    assert len(set(made.texts)) == len(made.texts) and made.left_out == 0


def test_flipped_questions_find_room_first() -> None:
    before = [sample("t", doc, 1.0) for doc in range(10)]
    after = [sample("t", doc, float(doc not in (4, 8))) for doc in range(10)]
    made = questions([before, after], most=4)
    assert list(made.doc) == [0, 1, 4, 8] and made.left_out == 6


def test_pictures_are_of_questions_that_pruning_changed() -> None:
    """Two benchmarks in turn; a setting that changed little gets its question before a second one of the others."""
    scores = {"a": [1, 1, 1], "b": [0, 0, 1], "c": [0, 0, 1], "d": [1, 1, 0]}  # by document, of three settings
    before = [sample(task, doc, 1.0) for task in ("x", "y") for doc in range(4)]
    after = [
        [sample(task, doc, float(row[at])) for task in ("x", "y") for doc, row in enumerate(scores.values())]
        for at in range(3)
    ]
    made = questions([before, *after])
    chosen = [(made.task[i], made.doc[i]) for i in choose(made, 8)]
    assert chosen[:4] == [("x", 1), ("y", 3), ("x", 2), ("y", 1)]
    assert {doc for _, doc in chosen[6:]} == {0} and len(chosen) == 8
    assert choose(made, 3) == choose(made, 8)[:3]


def test_pictures_from_the_committed_records() -> None:
    """Two settings of one question run again: the recorded answers, the frames, and as many patches as recorded."""
    folder = ROOT / "results/reference/pocket"
    found = {(r.config.method, r.config.ratio): f for f in find_runs(folder) if (r := read_run(f))}
    folders = [found["none", 0.0], found["fastv", 0.76]]
    wanted = [[s for s in read_samples(f) if (s.task, s.doc_id) == ("pocket_gqa", 12)] for f in folders]
    (picture,) = draw([read_run(f) for f in folders], wanted[0])
    assert (picture["task"], picture["doc"]) == ("pocket_gqa", 12)
    assert [uri[:23] for uri in picture["frames"]] == ["data:image/webp;base64,"]
    for at, (recorded,) in enumerate(wanted):
        shown = picture["settings"][at]
        assert shown["answer"] == recorded.answer
        last = shown["points"][-1]["panels"]
        assert sum(panel["kept"] for panel in last) == recorded.tokens["final"]
    json.dumps(picture)
    with pytest.raises(DataError, match="pocket_gqa/12: the data here are not those"):
        draw([read_run(folders[0])], [replace(wanted[0][0], media_key="other")])
