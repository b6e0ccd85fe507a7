"""What a data root holds for a benchmark: whole, or said in one line with its remedy; and its digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.cards import count_rows
from meteor_bench.data.root import check_files, digest
from meteor_bench.data.stored_media import check_stored, media_places
from meteor_bench.utils.safe_files import UnsafeFile, json_rows
from scripts.make_lookalikes import make
from tests.data.conftest import POPE
from tests.lmms.lookalikes import count_as, counts


@pytest.fixture
def pope(root: Path, monkeypatch: pytest.MonkeyPatch) -> suites.Benchmark:
    """The benchmark, whole in the root."""
    count_as(monkeypatch, counts(make(root, ["pope"])))
    return suites.benchmark("pope")


def rows_of(root: Path) -> Path:
    (file,) = root.rglob("*.parquet")
    return file


def test_missing_data_are_one_line(pope: suites.Benchmark, root: Path) -> None:
    check_files(pope, root)
    file = rows_of(root)
    whole = file.read_bytes()
    file.write_bytes(whole[:-50])
    with pytest.raises(DataError, match=r"pope: .*parquet is cut or no data .*; fetch it: meteor-bench data fetch"):
        check_files(pope, root)
    file.write_bytes(whole)
    file.rename(file.with_name("test-00001-of-00002.parquet"))
    with pytest.raises(DataError, match=r"is not whole, test-00000-of-00002.parquet is missing; fetch it: "):
        check_files(pope, root)
    shutil.rmtree(root / POPE)
    with pytest.raises(
        DataError,
        match=f"no data set {POPE} in .*; fetch it: meteor-bench data fetch --task pope --root .*/{root.name}",
    ):
        check_files(pope, root)


def test_a_wrong_number_of_rows_is_one_line(
    pope: suites.Benchmark, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_as(monkeypatch, {"pope": 9000})
    with pytest.raises(DataError, match=f"{POPE} has 6 rows in its split test, expected 9000; fetch it: meteor-bench"):
        check_files(suites.benchmark("pope"), root)


def test_a_digest_is_of_the_files_wherever_they_lie(pope: suites.Benchmark, root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    assert digest(pope, other) == digest(pope, root)
    with rows_of(other).open("ab") as stream:
        stream.write(b"more")
    assert digest(pope, other) != digest(pope, root)


@pytest.mark.parametrize("noted", [True, False])
def test_text_beside_pictures_is_no_picture(tmp_path: Path, noted: bool) -> None:
    """Of a table only the field that is called a picture is looked at; what is noted in the file counts as the card."""
    inside = str(tmp_path / "a.png")
    rows = {"turns": [[{"says": "../x", "picture": inside}, {"says": "http://x", "picture": None}]]}
    table = pa.table(rows)
    kind = {"feature": {"says": {"dtype": "string", "_type": "Value"}, "picture": {"_type": "Image"}}, "_type": "List"}
    if noted:
        about = json.dumps({"info": {"features": {"turns": kind}}})
        table = table.replace_schema_metadata({"huggingface": about})
    head = {"dataset_info": {"features": [{"name": "turns", "list": [{"name": "picture", "dtype": "image"}]}]}}
    declared = [] if noted else media_places(head)
    file = tmp_path / "a.parquet"
    parquet.write_table(table, file)
    check_stored(file, tmp_path, declared)
    (tmp_path / "inner").mkdir()
    with pytest.raises(UnsafeFile, match="row 0 takes a picture from"):
        check_stored(file, tmp_path / "inner", declared)


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("text", ['{"a": 1}\n\n{"a": 2}\n', '[{"a": 1},\n{"a": 2}]\n'])
def test_rows_of_json_are_counted_as_they_are_read(tmp_path: Path, start: str, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(start + text, encoding="utf-8")
    assert list(json_rows(file)) == [{"a": 1}, {"a": 2}] and count_rows(file) == 2
