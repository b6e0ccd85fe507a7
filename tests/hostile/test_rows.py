"""Rows that are not what their task expects: one line with task and row, or counted under --skip-broken."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from meteor_bench.core.errors import DataError
from scripts.make_lookalikes import make
from tests.lmms.lookalikes import count_as, counts, saying, score

pytestmark = pytest.mark.xdist_group("lmms_eval")
Row = dict[str, Any]


def _huge() -> bytes:
    """The beginning of a PNG file of 60,000 x 60,000."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + head
        + struct.pack(">I", zlib.crc32(head))
        + b"\0\0\0\x09IDAT"
        + bytes(9)
    )


def _with(name: str, value: Any) -> Callable[[Row], None]:
    return lambda row: row.update({name: value})


BROKEN: dict[str, tuple[Callable[[Row], None], str]] = {
    "no picture": (_with("image", None), "not what the task expects"),
    "nothing in the picture": (_with("image", {"bytes": None, "path": None}), "both are None"),
    "text for a picture": (_with("image", {"bytes": b"text", "path": None}), "of no known format"),
    "60,000 pixels": (_with("image", {"bytes": _huge(), "path": None}), "exceeds limit"),
    "no question": (_with("question", None), "not what the task expects"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    count_as(monkeypatch, counts(make(tmp_path / "root", ["pope"])))
    return tmp_path / "root"


def change(root: Path, number: int, how: Callable[[Row], None]) -> None:
    (file,) = root.rglob("*.parquet")
    table = parquet.read_table(file)
    rows = table.to_pylist()
    how(rows[number])
    parquet.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)


@pytest.mark.parametrize("what", ["no picture", *(pytest.param(w, marks=pytest.mark.slow) for w in list(BROKEN)[1:])])
@pytest.mark.parametrize("number", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_broken_row_ends_a_run_or_is_counted(what: str, number: int, root: Path, tmp_path: Path) -> None:
    how, said = BROKEN[what]
    change(root, number, how)
    with pytest.raises(DataError, match=said) as caught:
        score(saying(["yes"] * 6), "pope", root, tmp_path / "stopped")
    assert "pope" in str(caught.value) and "\n" not in str(caught.value)
    result = score(saying(["yes"] * 6), "pope", root, tmp_path / "skipped", skip_broken=True)
    assert [s["doc_id"] for s in result.samples if s["notes"] != ["a note"]] == [number]
    broken = result.samples[number]
    assert broken["score"] == 0 and broken["notes"][0].startswith(f"failed: pope: row {number}: ")
    assert said in broken["notes"][0] and result.n == 6


@pytest.mark.parametrize("column", ["question", pytest.param("answer", marks=pytest.mark.slow)])
def test_a_column_that_is_not_there_is_one_line(column: str, root: Path, tmp_path: Path) -> None:
    (file,) = root.rglob("*.parquet")
    parquet.write_table(parquet.read_table(file).drop_columns([column]), file)
    with pytest.raises(DataError, match=f"pope: .*{column}") as caught:
        score(saying(["yes"] * 6), "pope", root, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_long_question_is_a_question(root: Path, tmp_path: Path) -> None:
    change(root, 2, _with("question", "is there a cat? " * 70_000))
    assert score(saying(["yes"] * 6), "pope", root, tmp_path).n == 6
