"""Rows that are read some at a time."""

from __future__ import annotations

from itertools import islice
from typing import Any

import datasets

from meteor_bench.data.suites import benchmark
from meteor_bench.lmms import rows, tasks
from meteor_bench.lmms.inputs import HERE


def test_rows_are_those_of_the_data_set() -> None:
    kinds = {"label": datasets.ClassLabel(names=["a", "b"]), "answers": [{"answer": datasets.Value("string")}]}
    kinds |= {"nothing": datasets.Value("string"), "at": datasets.Value("timestamp[s]")}
    made = [
        {"label": i % 2, "answers": [{"answer": f"{k}"} for k in range(i % 3)], "nothing": None, "at": i}
        for i in range(2 * rows.TOGETHER + 3)
    ]
    data = datasets.Dataset.from_list(made, features=datasets.Features(kinds))
    read = rows.Rows(data)
    assert list(read) == list(data) and [list(row) for row in read] == [list(row) for row in data]
    assert len(read) == len(data) and read[70] == data[70] and read.features == data.features
    wanted = [5, 3, 130]
    assert list(read.select(wanted)) == [data[i] for i in wanted]
    assert list(islice(read, 1, None, 2)) == list(islice(data, 1, None, 2))
    assert list(rows.Rows(data.select([]))) == []


def test_what_a_task_does_to_a_row_is_not_seen_again() -> None:
    read = rows.Rows(datasets.Dataset.from_dict({"answers": [["A", "B"]]}))
    for row in read:
        row["answers"][0] = "a"
    assert [row["answers"] for row in read] == [["A", "B"]]


def test_lmms_eval_gets_them_for_documents_without_their_pictures() -> None:
    row = benchmark("pocket_pope")
    with tasks.opened(row, tasks.index([row]), HERE) as task:
        docs: Any = task.eval_docs_no_media
        assert isinstance(docs, rows.Rows) and "image" not in docs.features
        assert "image" in task.dataset[row.split].features and len(docs) == row.n
