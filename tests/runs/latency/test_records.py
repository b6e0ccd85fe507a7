"""Cells on disk: they come back as they were, and what is broken is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from meteor_bench.core.errors import RecordError
from meteor_bench.runs.latency.records import cell_path, read_cell, read_cells, write_cell
from tests.runs.latency.made import cell


def test_a_cell_comes_back_with_its_raw_samples(tmp_path: Path) -> None:
    path = cell_path(tmp_path / "new", "NVEagle/Eagle-X5-7B", 1, 0.76, 8, "0123456789abcdef")
    assert path.name == "NVEagle-Eagle-X5-7B-f1-r0.76-b8-01234567.json"
    write_cell(path, cell())
    assert read_cell(path) == cell()
    assert {p.name for p in path.parent.iterdir()} == {path.name, path.stem + ".raw.jsonl.gz"}
    raw = (path.parent / (path.stem + ".raw.jsonl.gz")).read_bytes()
    write_cell(path, cell())
    assert (path.parent / (path.stem + ".raw.jsonl.gz")).read_bytes() == raw


def test_cells_of_a_folder_in_order(tmp_path: Path) -> None:
    for ratio, batch in ((0.76, 8), (0.5, 1), (0.5, 8)):
        write_cell(cell_path(tmp_path, "m", 1, ratio, batch, "f"), cell(ratio, batch))
    assert [(c.batch, c.ratio) for c in read_cells(tmp_path)] == [(1, 0.5), (8, 0.5), (8, 0.76)]


@pytest.mark.parametrize("broken", ["cut", "raw", "schema", "field", "missing"])
def test_what_is_broken_is_said(tmp_path: Path, broken: str) -> None:
    path = cell_path(tmp_path, "m", 1, 0.5, 1, "f")
    write_cell(path, cell())
    text = path.read_text(encoding="utf-8")
    if broken == "cut":
        path.write_text(text[:100], encoding="utf-8")
    elif broken == "raw":
        raw = path.with_suffix(".raw.jsonl.gz")
        raw.write_bytes(raw.read_bytes()[:60])
    elif broken == "schema":
        path.write_text(text.replace('"schema": 1', '"schema": 99'), encoding="utf-8")
    elif broken == "field":
        path.write_text(text.replace('"batch": 2', '"batch": "two"'), encoding="utf-8")
    else:
        path.unlink()
    with pytest.raises(RecordError) as caught:
        read_cell(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
