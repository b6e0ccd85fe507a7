"""What a data root holds for a benchmark: whole, or said in one line with its remedy; and its digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.data import suites
from meteor_bench.data.root import check_files, digest
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
